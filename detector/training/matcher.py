"""One-to-one assignment of queries to objects (DETR, Carion et al. 2020)."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detector.boxes import giou, to_corners
from detector.network.ops.host_values import uploaded

CLASS_COST, BOX_COST, GIOU_COST = 2.0, 5.0, 2.0
UNUSABLE = 1e9  # the cost of a prediction that is NaN

Match = tuple[Tensor, Tensor]
"""Indices of the matched queries and of their objects, of one image."""


@torch.no_grad()
def match(
    logits: Sequence[Tensor],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    targets: Sequence[Tensor],
) -> list[list[Match]]:
    """The assignment of least cost 2 * (-log p(class)) + 5 * L1 + 2 * (-GIoU), by layer and image.

    Args:
        logits: of each decoder layer, (B, N, num_classes + 1).
        boxes: of each decoder layer, (B, N, 4) cxcywh.
        labels: per image (n,) class indices.
        targets: per image (n, 4) cxcywh.
    """
    counts = [len(label) for label in labels]
    all_labels, all_targets = torch.cat(list(labels)), torch.cat(list(targets))
    costs = torch.stack(
        [_cost(*layer, all_labels, all_targets) for layer in zip(logits, boxes, strict=True)]
    )
    # The one transfer of a batch: the assignment itself runs on the CPU. Predictions that are
    # NaN are matched somehow: the loss they give is NaN, too, and says so.
    on_cpu = costs.float().nan_to_num(UNUSABLE).cpu()
    assigned = [
        np.stack(linear_sum_assignment(matrix[i].numpy()))
        for layer in on_cpu
        for i, matrix in enumerate(layer.split(counts, dim=-1))
    ]
    found = torch.from_numpy(np.concatenate(assigned, axis=1))
    pairs = uploaded(found, torch.long, logits[0].device)
    matches = [
        (queries, objects)
        for queries, objects in pairs.split([part.shape[1] for part in assigned], dim=1)
    ]
    images = len(counts)
    return [matches[i * images : (i + 1) * images] for i in range(len(logits))]


def _cost(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """(B, N, total): every query against the objects of all images."""
    scores = logits.softmax(-1).clamp(min=1e-8).log()[..., labels]
    distance = torch.cdist(boxes, targets.to(boxes.dtype), p=1)
    overlap = giou(to_corners(boxes)[:, :, None], to_corners(targets)[None, None])
    return BOX_COST * distance - CLASS_COST * scores - GIOU_COST * overlap

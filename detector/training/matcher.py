"""One-to-one assignment of queries to objects (DETR, Carion et al. 2020)."""

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detector.boxes import giou, to_corners

CLASS_COST, BOX_COST, GIOU_COST = 2.0, 5.0, 2.0
UNUSABLE = 1e9  # the cost of a prediction that is no number

Match = tuple[Tensor, Tensor]
"""Indices of the matched queries and of their objects, of one image."""


@torch.no_grad()
def match(
    logits: Tensor, boxes: Tensor, labels: Sequence[Tensor], targets: Sequence[Tensor]
) -> list[Match]:
    """The assignment of least cost 2 * (-log p(class)) + 5 * L1 + 2 * (-GIoU) per image.

    Args:
        logits: (B, N, num_classes + 1).
        boxes: (B, N, 4) cxcywh.
        labels: per image (n,) class indices.
        targets: per image (n, 4) cxcywh.
    """
    counts = [len(label) for label in labels]
    all_labels, all_targets = torch.cat(list(labels)), torch.cat(list(targets))
    scores = logits.softmax(-1).clamp(min=1e-8).log()[..., all_labels]  # (B, N, total)
    distance = torch.cdist(boxes, all_targets.to(boxes.dtype), p=1)
    overlap = giou(to_corners(boxes)[:, :, None], to_corners(all_targets)[None, None])
    cost = BOX_COST * distance - CLASS_COST * scores - GIOU_COST * overlap
    # One transfer for the whole batch; the assignment itself runs on the CPU. Predictions that are
    # no numbers are matched somehow: the loss they give is no number either, and says so.
    per_image = cost.float().nan_to_num(UNUSABLE).cpu().split(counts, dim=-1)
    pairs = [linear_sum_assignment(matrix[i].numpy()) for i, matrix in enumerate(per_image)]
    device = logits.device
    return [
        (torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device))
        for rows, columns in pairs
    ]

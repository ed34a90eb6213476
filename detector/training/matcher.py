"""One-to-one assignment of queries to objects (DETR, Carion et al. 2020)."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detector.boxes import giou, to_corners
from detector.network.ops.host_values import uploaded

CLASS_COST, BOX_COST, GIOU_COST = 2.0, 5.0, 2.0
UNUSABLE = 1e9  # the cost of a prediction that is NaN


class Matches(NamedTuple):
    """Matched pairs of a batch, M after each layer; of an image there are as many in all layers."""

    images: Tensor  # (M,)
    queries: Tensor  # (layers, M)
    objects: Tensor  # (layers, M), counted through the batch


@torch.no_grad()
def match(
    logits: Tensor, boxes: Tensor, counts: Sequence[int], labels: Tensor, targets: Tensor
) -> Matches:
    """The assignment of least cost 2 * (-log p(class)) + 5 * L1 + 2 * (-GIoU), by layer and image.

    Args:
        logits: (layers, B, N, num_classes + 1), after each decoder layer.
        boxes: (layers, B, N, 4) cxcywh.
        counts: objects of each image.
        labels: (n,) class indices of the objects of all images, one image after the other.
        targets: (n, 4) cxcywh.
    """
    costs = torch.stack(
        [_cost(*layer, labels, targets) for layer in zip(logits, boxes, strict=True)]
    )
    # The one transfer of a batch: the assignment itself runs on the CPU. Predictions that are
    # NaN are matched somehow: the loss they give is NaN, too, and says so.
    on_cpu = costs.float().nan_to_num(UNUSABLE).cpu().numpy()
    starts = list(accumulate(counts, initial=0))
    found = [
        [_assigned(layer[i], slice(*ends)) for i, ends in enumerate(pairwise(starts))]
        for layer in on_cpu
    ]
    pairs = np.stack([np.concatenate(layer, axis=1) for layer in found])  # (layers, 2, M)
    images = np.repeat(np.arange(len(counts)), [part.shape[1] for part in found[0]])
    rows = np.concatenate((images[None], pairs[:, 0], pairs[:, 1]))
    indices = uploaded(torch.from_numpy(rows), torch.long, logits.device)
    return Matches(indices[0], *indices[1:].chunk(2))


def _assigned(costs: NDArray[np.float32], own: slice) -> NDArray[np.int64]:
    """Queries and objects, (2, pairs), of an image with its ``own`` objects among all."""
    queries, objects = linear_sum_assignment(costs[:, own])
    return np.stack((queries, objects + own.start))


def _cost(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """(B, N, n): every query against the objects of all images."""
    scores = logits.softmax(-1).clamp(min=1e-8).log()[..., labels]
    distance = torch.cdist(boxes, targets.to(boxes.dtype), p=1)
    overlap = giou(to_corners(boxes)[:, :, None], to_corners(targets))
    return BOX_COST * distance - CLASS_COST * scores - GIOU_COST * overlap

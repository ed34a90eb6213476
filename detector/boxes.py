"""Box geometry on tensors: conversions, IoU and generalized IoU."""

import torch
from torch import Tensor


def to_corners(boxes: Tensor) -> Tensor:
    """(..., 4) cxcywh to xyxy."""
    center, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((center - size / 2, center + size / 2), dim=-1)


def to_centers(boxes: Tensor) -> Tensor:
    """(..., 4) xyxy to cxcywh."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, in [0, 1], of broadcastable (..., 4) xyxy boxes."""
    overlap, union = _overlap_and_union(a, b)
    return overlap / union.clamp(min=torch.finfo(a.dtype).tiny)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalized IoU (Rezatofighi et al. 2019) of broadcastable (..., 4) xyxy boxes.

    In [-1, 1]; two boxes without area have -1 unless they coincide in a point (0).
    """
    overlap, union = _overlap_and_union(a, b)
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    tiny = torch.finfo(a.dtype).tiny
    return overlap / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def _overlap_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    overlap = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    return overlap, _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - overlap


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(dim=-1)

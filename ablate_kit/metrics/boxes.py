"""Overlap of axis-aligned boxes, element by element or as a matrix.

Boxes are ``(x1, y1, x2, y2)`` in pixels unless a name says ``xywh``. A box whose second corner lies
before its first is empty: it keeps its first corner and has no area.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Corners = tuple[Floats, Floats, Floats, Floats]

# Farther than any image: a coordinate beyond it is moved there, which keeps every area finite even
# in single precision.
_FAR = 1e15


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of ``a`` (..., 4) and ``b`` (..., 4), broadcast against each other.

    Computed in the precision of the inputs. Two boxes without area have an IoU of 0.
    """
    overlap, union = _overlap_and_union(_corners(a), _corners(b))
    return _ratio(overlap, union)


def giou(a: Floats, b: Floats) -> Floats:
    """Generalized IoU of ``a`` (..., 4) and ``b`` (..., 4), broadcast: in [-1, 1].

    ``IoU - (hull - union) / hull``, the hull being the smallest box around both (Rezatofighi et
    al., CVPR 2019, algorithm 1). Computed in the precision of the inputs. A quotient of two zeros
    is 0: two boxes on one line, or in one point, have a GIoU of 0.
    """
    first, second = _corners(a), _corners(b)
    overlap, union = _overlap_and_union(first, second)
    hull = _hull(first, second)
    return _ratio(overlap, union) - _ratio(hull - union, hull)


def coco_overlap(
    detections_xywh: NDArray[np.float64], truths_xywh: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The overlap that COCO evaluation thresholds, of n detections with n ground truths: (n,).

    IoU, but intersection over the detection's own area where ``crowd``. The operations and their
    order are those of ``bbIou`` in the COCO API's maskApi.c, so that a quotient that lies exactly
    on a threshold falls on the same side of it.
    """
    dx, dy, dw, dh = detections_xywh.T
    tx, ty, tw, th = truths_xywh.T
    width = np.minimum(dw + dx, tw + tx) - np.maximum(dx, tx)
    height = np.minimum(dh + dy, th + ty) - np.maximum(dy, ty)
    overlap = width * height
    area = dw * dh
    whole = np.where(crowd, area, area + tw * th - overlap)
    meet = (width > 0) & (height > 0) & (whole > 0)
    return np.divide(overlap, whole, out=np.zeros_like(overlap), where=meet)


def _corners(boxes: Floats) -> Corners:
    near = np.clip(boxes, -_FAR, _FAR)
    x1, y1, x2, y2 = (near[..., i] for i in range(4))
    return x1, y1, np.maximum(x1, x2), np.maximum(y1, y2)


def _overlap_and_union(a: Corners, b: Corners) -> tuple[Floats, Floats]:
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    overlap = np.maximum(width, 0) * np.maximum(height, 0)
    return overlap, _area(a) + _area(b) - overlap


def _area(box: Corners) -> Floats:
    return (box[2] - box[0]) * (box[3] - box[1])


def _hull(a: Corners, b: Corners) -> Floats:
    width = np.maximum(a[2], b[2]) - np.minimum(a[0], b[0])
    height = np.maximum(a[3], b[3]) - np.minimum(a[1], b[1])
    return width * height


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

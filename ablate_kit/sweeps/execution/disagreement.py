"""How far apart two sets of detections are that should be the same but for rounding."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ablate_kit.models.image_detections import ImageDetections

TOLERANCE = 1e-4  # of scores, and of boxes as a share of the largest coordinate


def disagreement(one: Sequence[ImageDetections], other: Sequence[ImageDetections]) -> float:
    """The largest difference of scores by rank, and of boxes as a share of the largest coordinate,
    of images; infinite where the numbers of detections differ."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        if len(a.scores) != len(b.scores):
            return float("inf")
        if not len(a.scores):
            continue
        worst = max(worst, _apart(np.sort(a.scores), np.sort(b.scores)), _boxes_apart(a, b))
    return worst


def _boxes_apart(a: ImageDetections, b: ImageDetections) -> float:
    x, y = a.boxes, b.boxes
    if a.queries is None or b.queries is None:
        x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    else:  # of two that score alike, which comes first is not told, nor which is the last to count
        classes = 1 + max(a.labels.max(), b.labels.max())
        named = (one.queries * classes + one.labels for one in (a, b))
        _, i, j = np.intersect1d(*named, return_indices=True)
        x, y = x[i], y[j]
    largest = np.abs(x[np.isfinite(x)]).max(initial=1.0)
    return _apart(x, y) / float(largest)


def _apart(x: Any, y: Any) -> float:
    with np.errstate(invalid="ignore"):
        difference = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))

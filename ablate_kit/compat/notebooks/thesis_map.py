"""The mean average precision that the thesis notebooks of the hybrid detector report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.nearest import nearest
from ablate_kit.reports.table import Table

SCORE_FLOOR = 0.05
MAX_DETECTIONS = 100
SMALLEST = 0.01

# Where it departs from COCO's and VOC's; printed beside the number.
DEVIATIONS = (
    "a detection asks only for the object it overlaps most, taken or not (VOC's rule, at IoU >= t)",
    "only detections of a score above 0.05 are ranked",
    "mAP_50_95 counts a class without objects as 0; mAP_50 skips it",
    "difficult objects and crowds are ordinary objects; there are no size ranges",
    "objects under 1 % of the image in width or height are left out; under 1 % of the square "
    "input, they are enlarged to it",
    "at most 100 detections per image, over all classes",
    "boxes are cut off at the square that the image is letterboxed into",
)

_IOUS = np.arange(50, 100, 5) / 100
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ThesisMap:
    """The two numbers that the notebooks keep; not comparable with COCO's or VOC's."""

    map_50_95: float
    map_50: float


def thesis_map(ground_truth: GroundTruth, detections: Detections) -> ThesisMap:
    """mAP by the notebooks' ``evaluate_map``; ``DEVIATIONS`` says what is particular.

    Raises:
        UserError: detections that point outside the ground truth, or an image of unknown size.
    """
    truth = _as_prepared(ground_truth)
    detections.check_against(truth)
    clipped = _clipped(detections, truth)
    found = nearest(truth, clipped, _kept(clipped))
    support = np.bincount(truth.labels, minlength=len(truth.classes))
    ap = np.zeros((len(_IOUS), len(support)))
    bounds = np.searchsorted(found.labels, np.arange(len(support) + 1))
    for i, iou in enumerate(_IOUS):
        true = found.true_positives(found.overlap >= iou)
        for label in np.flatnonzero(support):
            hits = true[bounds[label] : bounds[label + 1]]
            ap[i, label] = _ap(hits, int(support[label]))
    present = support > 0
    map_50 = float(ap[0, present].mean()) if present.any() else 0.0
    return ThesisMap(float(ap.mean()), map_50)


def protocol(
    truth: GroundTruth, found: Mapping[str, Detections]
) -> tuple[Table, dict[str, dict[str, Any]]]:
    """A table of all dumps, and the same numbers by dump."""
    results = {name: thesis_map(truth, one) for name, one in found.items()}
    title = "mAP as the thesis notebooks take it; not comparable with COCO's or VOC's:\n"
    title += "\n".join(f"  * {line}" for line in DEVIATIONS)
    header = ("detections", "mAP_50_95", "mAP_50")
    rows = ((name, f"{one.map_50_95:.4f}", f"{one.map_50:.4f}") for name, one in results.items())
    numbers = {
        name: {"mAP_50_95": one.map_50_95, "mAP_50": one.map_50} for name, one in results.items()
    }
    return Table(title, header, tuple(rows), header[:1]), numbers


def _ap(hits: NDArray[np.bool_], support: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or a larger one."""
    tp = np.cumsum(hits)
    best = np.maximum.accumulate((tp / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(np.append(best, 0.0)[np.searchsorted(tp / support, _RECALLS)].mean())


def _kept(detections: Detections) -> NDArray[np.int64]:
    """The best detections of every image: image by image, as the notebooks gather them, and in
    their order within one. Equal scores are ranked in this order."""
    scored = np.flatnonzero(detections.scores > SCORE_FLOOR)
    image = detections.image[scored]
    order = np.lexsort((-detections.scores[scored], image))
    place = np.arange(len(order)) - np.searchsorted(image[order], image[order])
    kept = np.sort(scored[order[place < MAX_DETECTIONS]])
    return kept[np.argsort(detections.image[kept], kind="stable")]


def _clipped(detections: Detections, truth: GroundTruth) -> Detections:
    """Boxes that leave the square end at its edge; the others stay as they are, to the last bit."""
    side, margin, _ = _square(truth)
    low = -margin[detections.image]
    high = low + side[detections.image, None]
    boxes = np.clip(detections.boxes, np.tile(low, 2), np.tile(high, 2))
    if detections.sizes is None:
        return replace(detections, boxes=boxes)
    moved = (boxes != detections.boxes).any(axis=1, keepdims=True)
    sizes = np.where(moved, boxes[:, 2:] - boxes[:, :2], detections.sizes)
    return replace(detections, boxes=boxes, sizes=sizes)


def _square(truth: GroundTruth) -> tuple[NDArray[np.float64], ...]:
    """Of every image, in its pixels: the square's side, its margins left and above, the size."""
    size = np.stack([truth.widths, truth.heights], axis=1).astype(np.float64)
    side = size.max(axis=1)
    return side, (side[:, None] - size) / 2, size


def _as_prepared(truth: GroundTruth) -> GroundTruth:
    """The objects as the notebooks' data set hands them out, in pixels of the image.

    Its coordinates are shares of a letterboxed square. Overlap does not depend on the scale, so the
    square is taken as large as the image's longer side.
    """
    side, margin, size = _square(truth)
    if (size <= 0).any():
        unknown = truth.image_ids[(size <= 0).any(axis=1)][0]
        raise UserError(f"thesis mAP needs the size of every image; image {unknown} has none")
    extent = truth.boxes[:, 2:] - truth.boxes[:, :2]
    kept = np.flatnonzero((extent >= SMALLEST * size[truth.image]).all(axis=1))
    image = truth.image[kept]
    square, offset = side[image][:, None], margin[image]
    center = (truth.boxes[kept, :2] + truth.boxes[kept, 2:]) / 2 + offset
    extent = np.clip(extent[kept], SMALLEST * square, square)
    center = np.clip(center, extent / 2, square - extent / 2) - offset
    return GroundTruth(
        image_ids=truth.image_ids,
        widths=truth.widths,
        heights=truth.heights,
        image=image,
        boxes=np.concatenate([center - extent / 2, center + extent / 2], axis=1),
        labels=truth.labels[kept],
        ignore=np.zeros(len(kept), dtype=bool),
        areas=truth.areas[kept],
        ids=truth.ids[kept],
        classes=truth.classes,
        category_ids=truth.category_ids,
    )

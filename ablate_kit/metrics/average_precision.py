"""Average precision and recall by the COCO protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import hotcoco
import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth

_MOST_CLASSES = 100_000  # 2 GB, if there are objects of each
_AT_ONCE = 1_000  # classes whose curves for all areas and limits are there at a time: 0.4 GB

# What each summary number reads from the evaluation: which curve, at which IoU (None: the mean of
# 0.50:0.05:0.95), for which ground-truth area, and for how many detections per class and image.
_SUMMARY: Mapping[str, tuple[str, float | None, str, int]] = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0.5, "all", 100),
    "AP75": ("precision", 0.75, "all", 100),
    "APs": ("precision", None, "small", 100),
    "APm": ("precision", None, "medium", 100),
    "APl": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "ARs": ("recall", None, "small", 100),
    "ARm": ("recall", None, "medium", 100),
    "ARl": ("recall", None, "large", 100),
}

_IOUS = np.linspace(0.5, 0.95, 10)

_Curve = tuple[str, str, int]  # precision or recall, area, limit


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """The COCO family; NaN where no ground truth defines a number (pycocotools writes -1)."""

    overall: dict[str, float]  # AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl
    ap: NDArray[np.float64]  # (classes,) AP of each class
    # (classes,) AP of each class at IoU 0.5; NaN where that is not among ``ious``.
    ap50: NDArray[np.float64]
    ious: NDArray[np.float64]  # the thresholds
    ap_at: NDArray[np.float64]  # (ious, classes) AP of each class at each threshold

    @property
    def at_iou(self) -> dict[float, float]:
        """AP at each threshold: the mean over classes that have ground truth."""
        return {
            float(iou): float(np.nanmean(row)) if np.isfinite(row).any() else float("nan")
            for iou, row in zip(self.ious, self.ap_at, strict=True)
        }


def average_precision(
    ground_truth: GroundTruth, detections: Detections, *, ious: Sequence[float] | None = None
) -> AveragePrecision:
    """COCO's AP and AR, equal to pycocotools to the last bit on the same input.

    Args:
        ious: thresholds to take the place of 0.50:0.05:0.95, each more than 0 and at most 1.

    The ground truth says how many detections count, per class and image, in every number but AR1
    and AR10. pycocotools prints -1 for AP with any limit but 100; here AP follows the limit.

    Two differences are deliberate: pycocotools takes a match with annotation id 0 for no match;
    here annotation ids play no part. And boxes whose areas vanish in float64 overlap by 0 / 0,
    which it takes for a match; here by 0. Without detections every defined number is 0.

    Raises:
        UserError: detections that point outside the ground truth, a threshold out of range.
    """
    detections.check_against(ground_truth)
    if ious is not None and not (ious and all(0 < iou <= 1 for iou in ious)):
        raise UserError(f"IoU thresholds are {list(ious)}; expected some, more than 0, at most 1")
    max_detections = ground_truth.max_detections
    occurring = np.union1d(ground_truth.labels, detections.labels).astype(np.int64)
    if len(occurring) > _MOST_CLASSES:
        raise UserError(
            f"objects and detections of {len(occurring):,} classes; AP is computed for up to "
            f"{_MOST_CLASSES:,}"
        )
    # In the order of their ids, as pycocotools has them: it is the order of the sums.
    ordered = occurring[np.argsort(np.asarray(ground_truth.category_ids)[occurring])]
    levels = np.asarray(sorted(set(map(float, ious)))) if ious is not None else _IOUS
    limits = (1, 10, max_detections)
    ap, ap50 = (np.full(len(ground_truth.classes), np.nan) for _ in range(2))
    ap_at = np.full((len(levels), len(ground_truth.classes)), np.nan)
    parts: dict[_Curve, list[NDArray[np.float64]]] = {}
    for start in range(0, max(len(ordered), 1), _AT_ONCE):
        classes = ordered[start : start + _AT_ONCE]
        curves = _curves(ground_truth, detections, classes, levels, limits)
        for label, values in zip(classes, curves["precision", "all", 100].T, strict=False):
            values = np.ascontiguousarray(values.T)
            ap[label], ap50[label] = _mean_defined(values), _mean_defined(values[levels == 0.5])
            ap_at[:, label] = [_mean_defined(row) for row in values]
        for key, values in curves.items():
            has_objects = (values > -1).reshape(-1, values.shape[-1]).any(axis=0)
            parts.setdefault(key, []).append(values[..., has_objects])

    overall = {}
    for name, (curve, iou, area, limit) in _SUMMARY.items():
        values = np.concatenate(parts[curve, area, limit], axis=-1)
        overall[name] = _mean_defined(values if iou is None else values[levels == iou])
    return AveragePrecision(overall=overall, ap=ap, ap50=ap50, ious=levels, ap_at=ap_at)


def _curves(
    ground_truth: GroundTruth,
    detections: Detections,
    classes: NDArray[np.int64],
    ious: NDArray[np.float64],
    limits: tuple[int, int, int],
) -> dict[_Curve, NDArray[np.float64]]:
    """The curves that the summary reads, by kind, area and limit; the last axis is of ``classes``.

    The largest of ``limits`` goes by the name of COCO's, 100.
    """
    # Ranks instead of ids: the same order, and free of the ids' own range.
    image_rank = np.argsort(np.argsort(ground_truth.image_ids)) + 1
    rank = np.zeros(len(ground_truth.classes), dtype=np.int64)
    rank[classes] = np.arange(1, len(classes) + 1)
    objects = np.flatnonzero(rank[ground_truth.labels])
    rows = np.flatnonzero(rank[detections.labels])
    truth = hotcoco.COCO.from_arrays(
        [
            {"id": number, "width": width, "height": height}
            for number, width, height in zip(
                image_rank.tolist(),
                ground_truth.widths.tolist(),
                ground_truth.heights.tolist(),
                strict=True,
            )
        ],
        [{"id": number, "name": str(number)} for number in range(1, max(len(classes), 1) + 1)],
        image_rank[ground_truth.image[objects]],
        rank[ground_truth.labels[objects]],
        ground_truth.xywh[objects],
        area=ground_truth.areas[objects],
        iscrowd=ground_truth.ignore[objects],
    )
    found = truth.load_res(
        np.column_stack(
            [
                image_rank[detections.image],
                detections.xywh,
                detections.scores,
                rank[detections.labels],
            ]
        )[rows]
    )
    evaluation = hotcoco.COCOeval(truth, found, "bbox")
    evaluation.params.iou_thrs = ious.tolist()
    evaluation.params.max_dets = list(limits)
    evaluation.evaluate()
    evaluation.accumulate()
    curves = cast(dict[str, Any], evaluation.eval)  # a copy; None only before accumulate()
    areas, counts = list(evaluation.params.area_rng_lbl), list(evaluation.params.max_dets)
    found_curves = {}
    for curve, _, area, limit in _SUMMARY.values():
        at = counts.index(limit if limit < 100 else limits[-1])
        found_curves[curve, area, limit] = curves[curve][..., areas.index(area), at].copy()
    return found_curves


def _mean_defined(values: NDArray[np.float64]) -> float:
    """Mean of what is defined: -1 marks a class without ground truth."""
    defined = values[values > -1]
    return float(np.mean(defined)) if len(defined) else float("nan")

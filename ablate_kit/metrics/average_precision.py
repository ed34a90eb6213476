"""Average precision and recall by the COCO protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import hotcoco
import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import FEWEST_DETECTIONS, Detections, GroundTruth

# What each summary number reads from the evaluation: which curve, at which IoU (None: the mean of
# 0.50:0.05:0.95), for which ground-truth area, and for how many detections per class and image.
_MOST_CLASSES = 20_000  # 2 GB

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


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """The COCO family; NaN where no ground truth defines a number (pycocotools writes -1).

    Attributes:
        overall: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl.
        ap: (classes,) AP of each class.
        ap50: (classes,) AP of each class at IoU 0.5; NaN where that is not among ``ious``.
        ious: the thresholds.
        ap_at: (ious, classes) AP of each class at each threshold.
    """

    overall: dict[str, float]
    ap: NDArray[np.float64]
    ap50: NDArray[np.float64]
    ious: NDArray[np.float64]
    ap_at: NDArray[np.float64]

    @property
    def at_iou(self) -> dict[float, float]:
        """AP at each threshold: the mean over classes that have ground truth."""
        return {
            float(iou): float(np.nanmean(row)) if np.isfinite(row).any() else float("nan")
            for iou, row in zip(self.ious, self.ap_at, strict=True)
        }


def average_precision(
    ground_truth: GroundTruth,
    detections: Detections,
    *,
    ious: Sequence[float] | None = None,
    max_detections: int | None = None,
) -> AveragePrecision:
    """COCO's AP and AR, equal to pycocotools to the last bit on the same input.

    Args:
        ious: thresholds to take the place of 0.50:0.05:0.95, each more than 0 and at most 1.
        max_detections: per class and image, in every number but AR1 and AR10; None: the ground
            truth's. pycocotools prints -1 for AP with any limit but 100; here AP follows the limit.

    One difference is deliberate: pycocotools takes a match with annotation id 0 for no match.
    Here annotation ids play no part. Without detections every defined number is 0.

    Raises:
        UserError: detections that point outside the ground truth, a threshold or a limit out of
            range.
    """
    detections.check_against(ground_truth)
    if ious is not None and not (ious and all(0 < iou <= 1 for iou in ious)):
        raise UserError(f"IoU thresholds are {list(ious)}; expected some, more than 0, at most 1")
    if max_detections is None:
        max_detections = ground_truth.max_detections
    if max_detections < FEWEST_DETECTIONS:
        raise UserError(f"at most {max_detections} detections; expected more than 10")
    # Ranks instead of ids: the same order, and free of the ids' own range.
    image_rank = np.argsort(np.argsort(ground_truth.image_ids)) + 1
    # Only classes that occur: for each one there are precisions at 10 thresholds, 101 recalls, 4
    # areas and 3 limits.
    occurring = np.union1d(ground_truth.labels, detections.labels)
    if len(occurring) > _MOST_CLASSES:
        raise UserError(
            f"objects and detections of {len(occurring):,} classes; AP is computed for up to "
            f"{_MOST_CLASSES:,}"
        )
    category_ids = np.asarray(ground_truth.category_ids)
    class_rank = np.zeros(len(category_ids), dtype=np.int64)
    class_rank[occurring] = np.argsort(np.argsort(category_ids[occurring])) + 1
    truth = hotcoco.COCO.from_arrays(
        [
            {"id": rank, "width": width, "height": height}
            for rank, width, height in zip(
                image_rank.tolist(),
                ground_truth.widths.tolist(),
                ground_truth.heights.tolist(),
                strict=True,
            )
        ],
        [{"id": rank, "name": str(rank)} for rank in range(1, max(len(occurring), 1) + 1)],
        image_rank[ground_truth.image],
        class_rank[ground_truth.labels],
        ground_truth.xywh,
        area=ground_truth.areas,
        iscrowd=ground_truth.ignore,
    )
    found = truth.load_res(
        np.column_stack(
            [
                image_rank[detections.image],
                detections.xywh,
                detections.scores,
                class_rank[detections.labels],
            ]
        )
    )
    evaluation = hotcoco.COCOeval(truth, found, "bbox")
    if ious is not None:
        evaluation.params.iou_thrs = sorted(set(map(float, ious)))
    evaluation.params.max_dets = [1, 10, max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    curves = cast(dict[str, Any], evaluation.eval)  # a copy; None only before accumulate()
    parameters = evaluation.params
    levels = np.asarray(parameters.iou_thrs)
    areas, limits = list(parameters.area_rng_lbl), list(parameters.max_dets)

    overall = {}
    for name, (curve, iou, area, limit) in _SUMMARY.items():
        at = limits.index(limit if limit < 100 else max_detections)
        values = curves[curve][..., areas.index(area), at]
        overall[name] = _mean_defined(values if iou is None else values[levels == iou])
    precision = curves["precision"][..., areas.index("all"), limits.index(max_detections)]
    absent = np.full(precision.shape[:2], -1.0)
    by_class = [precision[:, :, rank - 1] if rank else absent for rank in class_rank]
    return AveragePrecision(
        overall=overall,
        ap=np.array([_mean_defined(values) for values in by_class]),
        ap50=np.array([_mean_defined(values[levels == 0.5]) for values in by_class]),
        ious=levels,
        ap_at=np.array([[_mean_defined(row) for row in values] for values in by_class]).T,
    )


def _mean_defined(values: NDArray[np.float64]) -> float:
    """Mean of what is defined: -1 marks a class without ground truth."""
    defined = values[values > -1]
    return float(np.mean(defined)) if len(defined) else float("nan")

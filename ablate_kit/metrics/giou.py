"""Mean GIoU over Hungarian pairs: as published, and in a form that sees misses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import BoxPairs, OverPairs


@dataclass(frozen=True, eq=False)
class MatchedGiou:
    """GIoU of found boxes, and what becomes of it when boxes are not found.

    Classes are those of the ground truth; the detection's class plays no part.
    """

    matched_mean: float  # mean GIoU over the pairs; NaN without a pair
    match_rate: float  # share of the ground truths that have a pair
    penalized_mean: float  # mean over the ground truths, -1 for one without a pair
    # class_matched_mean, class_match_rate, class_penalized_mean: (classes,) the same for the ground
    # truths of each class; NaN for a class without any.
    class_matched_mean: NDArray[np.float64]
    class_match_rate: NDArray[np.float64]
    class_penalized_mean: NDArray[np.float64]


def published_giou(ground_truth: GroundTruth, detections: Detections, pairs: BoxPairs) -> OverPairs:
    """Mean GIoU as the published Deep Dissect protocol takes it; ``pairs`` of ``published_pairs``.

    It is blind to misses and to false positives, and its numbers of a class, over the pairs of
    which both boxes are of it, to wrong classes as well: a box that is found but misnamed drops out
    of the mean. NaN without a pair.
    """
    classes = len(ground_truth.classes)
    label = ground_truth.labels[pairs.truth]
    agree = label == detections.labels[pairs.detection]
    count = np.bincount(label[agree], minlength=classes)
    total = np.bincount(label[agree], weights=pairs.giou[agree], minlength=classes)
    return OverPairs(
        overall=float(pairs.giou.mean()) if len(pairs.giou) else float("nan"),
        per_class=_mean(total, count),
    )


def matched_giou(ground_truth: GroundTruth, pairs: BoxPairs) -> MatchedGiou:
    """GIoU with and without misses; ``pairs`` of ``hungarian_pairs`` without ignored regions."""
    classes = len(ground_truth.classes)
    label = ground_truth.labels[pairs.truth]
    support = np.bincount(ground_truth.labels[~ground_truth.ignore], minlength=classes)
    matched = np.bincount(label, minlength=classes)
    total = np.bincount(label, weights=pairs.giou, minlength=classes)
    # One more "class" for all of them together, so that every formula stands here once.
    support, matched, total = (np.append(part, part.sum()) for part in (support, matched, total))
    matched_mean = _mean(total, matched)
    match_rate = _mean(matched, support)
    penalized_mean = _mean(total - (support - matched), support)
    return MatchedGiou(
        matched_mean=float(matched_mean[-1]),
        match_rate=float(match_rate[-1]),
        penalized_mean=float(penalized_mean[-1]),
        class_matched_mean=matched_mean[:-1],
        class_match_rate=match_rate[:-1],
        class_penalized_mean=penalized_mean[:-1],
    )


def _mean(total: NDArray[Any], count: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

"""Localization recall precision, the error that sees misses, false positives and position alike.

Oksuz et al. 2018, "Localization Recall Precision (LRP): a new performance metric for object
detection": at a score threshold, every true positive costs its distance from the object, as a share
of the largest that still counts, and every false positive and every miss costs 1; the mean over all
of them is between 0 (perfect) and 1. Optimal LRP is that at the threshold, of each class by itself,
where it is lowest.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.boxes import iou
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import Matches, Outcome

_IOU = 0.5  # of the matches

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OptimalLrp:
    """Optimal LRP and its three parts by class: (classes,) NaN for a class without ground truth."""

    error: Floats  # optimal LRP
    localization: Floats  # mean of 1 - IoU over the true positives; NaN without one
    false_positive: Floats  # share of the detections that are none; NaN without a detection
    false_negative: Floats  # share of the objects that are missed
    # The score where it is lowest, the highest such score; NaN without a detection.
    threshold: Floats

    def overall(self) -> dict[str, float]:
        """The means over the classes where they are defined."""
        return {key: _mean(values) for key, values in self.per_class().items()}

    def per_class(self) -> dict[str, Floats]:
        return {
            "olrp": self.error,
            "olrp_localization": self.localization,
            "olrp_false_positive": self.false_positive,
            "olrp_false_negative": self.false_negative,
        }


def optimal_lrp(ground_truth: GroundTruth, detections: Detections, matches: Matches) -> OptimalLrp:
    """Of ``matches`` at IoU 0.5, which serve every score threshold."""
    columns = np.full((5, len(matches.support)), np.nan)
    counted = np.flatnonzero(matches.outcome != Outcome.IGNORED)
    order = counted[np.lexsort((-matches.scores[counted], matches.labels[counted]))]
    labels = matches.labels[order]
    true = matches.outcome[order] == Outcome.TRUE_POSITIVE
    distance = np.zeros(len(order))
    pairs = order[true]
    distance[true] = 1 - iou(detections.boxes[pairs], ground_truth.boxes[matches.truth[pairs]])
    for label in np.flatnonzero(matches.support).tolist():
        start, end = np.searchsorted(labels, [label, label + 1])
        columns[:, label] = _optimum(
            matches.scores[order[start:end]],
            true[start:end],
            distance[start:end],
            int(matches.support[label]),
        )
    return OptimalLrp(*columns)


def _optimum(
    scores: Floats, true: NDArray[np.bool_], distance: Floats, objects: int
) -> tuple[float, float, float, float, float]:
    """Of one class, its detections by falling score."""
    if not len(scores):
        return 1.0, np.nan, np.nan, 1.0, np.nan
    # Detections that share a score stay or go together.
    last = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    hits, far = np.cumsum(true)[last], np.cumsum(distance)[last]
    false, missed = last + 1 - hits, objects - hits
    error = (far / (1 - _IOU) + false + missed) / (objects + false)
    at = int(np.argmin(error))
    return (
        float(error[at]),
        float(far[at] / hits[at]) if hits[at] else np.nan,
        float(false[at] / (last[at] + 1)),
        float(missed[at] / objects),
        float(scores[last[at]]),
    )


def _mean(values: Floats) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else float("nan")

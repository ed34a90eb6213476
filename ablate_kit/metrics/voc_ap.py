"""Average precision as PASCAL VOC takes it: 11 points of recall (2007), or the whole area."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.nearest import nearest


@dataclass(frozen=True, eq=False)
class VocAp:
    """AP at IoU over 0.5; NaN for a class without objects to be found."""

    # (classes,) mean of the best precision at recall 0, 0.1 ... 1 (VOC2007).
    ap07: NDArray[np.float64]
    # (classes,) area under the curve of the best precision at each recall (VOC2010 on).
    ap: NDArray[np.float64]
    recall: NDArray[np.float64]  # (classes,) of all detections
    support: NDArray[np.int64]  # (classes,) objects to be found

    @property
    def map07(self) -> float:
        """Mean of ``ap07`` over the classes that have objects; NaN without any."""
        return _mean(self.ap07)

    @property
    def map(self) -> float:
        """Mean of ``ap`` over the classes that have objects; NaN without any."""
        return _mean(self.ap)


def voc_ap(ground_truth: GroundTruth, detections: Detections) -> VocAp:
    """The rule of the VOC devkit's VOCevaldet.

    Every detection asks for the object of its class that it overlaps most. At an IoU over 0.5
    it is a true positive for the first, best scored, detection to ask, a false positive for others;
    nothing at all where the object is ignored (VOC: difficult). Every detection counts, however
    many an image has. The devkit adds 1 to widths and heights, since its boxes include their last
    pixel; boxes here end behind it, which is the same.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    found = nearest(ground_truth, detections, np.arange(len(detections)))
    enough = found.overlap > 0.5
    ignored = np.zeros(len(enough), dtype=bool)
    ignored[enough] = ground_truth.ignore[found.truth[enough]]
    true = found.true_positives(enough & ~ignored)
    support = np.bincount(
        ground_truth.labels[~ground_truth.ignore], minlength=len(ground_truth.classes)
    )
    columns = np.full((3, len(support)), np.nan)
    for label in np.flatnonzero(support):
        counted = slice(*np.searchsorted(found.labels, [label, label + 1]))
        hits = true[counted][~ignored[counted]]
        tp = np.cumsum(hits)
        recall, precision = tp / support[label], tp / np.arange(1, len(hits) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a larger one
        # The devkit's thresholds are 0:0.1:1, and its recalls quotients: 3 / 10 < 0.1 * 3.
        at = np.searchsorted(recall, np.arange(11) * 0.1, side="left")
        steps = np.diff(recall, prepend=0.0)
        eleven = np.append(best, 0.0)[at].mean()
        columns[:, label] = eleven, (steps * best).sum(), recall[-1] if len(recall) else 0.0
    return VocAp(columns[0], columns[1], columns[2], support)


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

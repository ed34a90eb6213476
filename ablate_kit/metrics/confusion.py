"""Which class is taken for which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import greedy_pairs

_IOU = 0.5
_LISTED = 1_000  # classes


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of boxes at one score threshold and IoU: of the pairs of classes that there are."""

    # The classes that are counted: all, but of more than a thousand only those that occur.
    classes: NDArray[np.int64]
    # true, detected: (pairs,) places in ``classes``, in order. Past its end: no object, no box.
    true: NDArray[np.int64]
    detected: NDArray[np.int64]
    pairs: NDArray[np.int64]  # (pairs,) how often an object of the one class was found as the other
    threshold: float  # detections of at least this score count

    @property
    def is_listed(self) -> bool:
        """Whether there are few enough classes for the matrix of all pairs."""
        return len(self.classes) <= _LISTED

    @property
    def counts(self) -> NDArray[np.int64]:
        """(classes + 1, classes + 1), true class by detected class. The last column holds objects
        that no box was found for, the last row boxes without an object."""
        counts = np.zeros((len(self.classes) + 1,) * 2, dtype=np.int64)
        counts[self.true, self.detected] = self.pairs
        return counts


def confusion(ground_truth: GroundTruth, detections: Detections, threshold: float) -> Confusion:
    """Pairs of boxes, whatever their classes, counted by the two classes.

    By descending score, each detection takes the free object of its image that it overlaps most, if
    by at least half; of equal ones, one of its own class. A detection without one that overlaps an
    ignored region, by half of its own area, is not counted.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    counted = np.arange(len(ground_truth.classes))
    if len(counted) > _LISTED:
        counted = np.union1d(ground_truth.labels, detections.labels).astype(np.int64)
    classes = len(counted)
    truth_labels = np.searchsorted(counted, ground_truth.labels)
    labels = np.searchsorted(counted, detections.labels)
    kept = np.flatnonzero(detections.scores.astype(np.float64) >= threshold)
    truth = greedy_pairs(ground_truth, detections, kept, _IOU)
    ignored = truth >= 0
    ignored[ignored] = ground_truth.ignore[truth[ignored]]
    true = np.where(truth >= 0, truth_labels[truth], classes)[~ignored]
    seen = labels[kept][~ignored]
    missed = ~ground_truth.ignore
    missed[truth[truth >= 0]] = False
    cells = np.concatenate(
        [true * (classes + 1) + seen, truth_labels[missed] * (classes + 1) + classes]
    )
    cells, pairs = np.unique(cells.astype(np.int64), return_counts=True)
    rows, columns = np.divmod(cells, classes + 1)
    return Confusion(counted, rows, columns, pairs, float(threshold))

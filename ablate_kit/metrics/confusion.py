"""Which class is taken for which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import greedy_pairs

_LISTED, _MOST = 1_000, 10_000  # classes


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of boxes at one score threshold and IoU.

    Attributes:
        classes: the classes that are counted: all, but of more than a thousand only those that
            occur.
        counts: (classes + 1, classes + 1), true class by detected class. The last column holds
            objects that no box was found for, the last row boxes without an object.
        threshold: detections of at least this score count.
    """

    counts: NDArray[np.int64]
    threshold: float
    classes: NDArray[np.int64]


def confusion(
    ground_truth: GroundTruth, detections: Detections, threshold: float, iou: float = 0.5
) -> Confusion:
    """Pairs of boxes, whatever their classes, counted by the two classes.

    By descending score, each detection takes the free object of its image that it overlaps most, if
    by at least ``iou``; of equal ones, one of its own class. A detection without one that overlaps
    an ignored region, by ``iou`` of its own area, is not counted.

    Raises:
        UserError: detections that point outside the ground truth, or too many classes that occur.
    """
    counted = np.arange(len(ground_truth.classes))
    if len(counted) > _LISTED:
        counted = np.union1d(ground_truth.labels, detections.labels).astype(np.int64)
    if len(counted) > _MOST:
        raise UserError(f"confusions are counted for up to {_MOST:,} classes, not {len(counted):,}")
    classes = len(counted)
    truth_labels = np.searchsorted(counted, ground_truth.labels)
    labels = np.searchsorted(counted, detections.labels)
    kept = np.flatnonzero(detections.scores.astype(np.float64) >= threshold)
    truth = greedy_pairs(ground_truth, detections, kept, iou)
    ignored = truth >= 0
    ignored[ignored] = ground_truth.ignore[truth[ignored]]
    true = np.where(truth >= 0, truth_labels[truth], classes)[~ignored]
    seen = labels[kept][~ignored]
    missed = ~ground_truth.ignore
    missed[truth[truth >= 0]] = False
    cells = np.concatenate(
        [true * (classes + 1) + seen, truth_labels[missed] * (classes + 1) + classes]
    )
    counts = np.bincount(cells, minlength=(classes + 1) ** 2)
    return Confusion(counts.reshape(classes + 1, classes + 1), float(threshold), counted)

"""Which class is taken for which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import greedy_pairs


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of boxes at one score threshold and IoU.

    Attributes:
        counts: (classes + 1, classes + 1), true class by detected class. The last column holds
            objects that no box was found for, the last row boxes without an object.
        threshold: detections of at least this score count.
    """

    counts: NDArray[np.int64]
    threshold: float


def confusion(
    ground_truth: GroundTruth, detections: Detections, threshold: float, iou: float = 0.5
) -> Confusion:
    """Pairs of boxes, whatever their classes, counted by the two classes.

    By descending score, each detection takes the free object of its image that it overlaps most, if
    by at least ``iou``; of equal ones, one of its own class. A detection without one that overlaps
    an ignored region, by ``iou`` of its own area, is not counted.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    classes = len(ground_truth.classes)
    kept = np.flatnonzero(detections.scores.astype(np.float64) >= threshold)
    truth = greedy_pairs(ground_truth, detections, kept, iou)
    ignored = truth >= 0
    ignored[ignored] = ground_truth.ignore[truth[ignored]]
    true = np.where(truth >= 0, ground_truth.labels[truth], classes)[~ignored]
    seen = detections.labels[kept][~ignored]
    missed = ~ground_truth.ignore
    missed[truth[truth >= 0]] = False
    cells = np.concatenate(
        [true * (classes + 1) + seen, ground_truth.labels[missed] * (classes + 1) + classes]
    )
    counts = np.bincount(cells, minlength=(classes + 1) ** 2)
    return Confusion(counts.reshape(classes + 1, classes + 1), float(threshold))

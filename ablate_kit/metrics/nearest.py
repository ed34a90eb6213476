"""Assignment by VOC's rule: every detection asks for the object it overlaps most, and no other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.overlaps import Indices, is_first, overlapping


@dataclass(frozen=True, eq=False)
class Nearest:
    """What every detection asks for, by rank."""

    # (n,) detections by class, within it by descending score; ties in their given order.
    rank: Indices
    labels: Indices  # (n,) class of each, ascending
    # (n,) object of the same class and image with the largest overlap, the first of several; -1
    # where none overlaps at all.
    truth: Indices
    overlap: NDArray[np.float64]  # (n,) IoU with it

    def true_positives(self, taking: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n,) which are the first, among those in ``taking``, to ask for their object."""
        asking = np.flatnonzero(taking)
        by_truth = asking[np.argsort(self.truth[asking], kind="stable")]
        first = np.zeros(len(self.rank), dtype=bool)
        first[by_truth[is_first(self.truth[by_truth])]] = True
        return first


def nearest(ground_truth: GroundTruth, detections: Detections, kept: Indices) -> Nearest:
    """The object that each of the ``kept`` detections overlaps most, free or not.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    detections.check_against(ground_truth)
    classes = len(ground_truth.classes)
    rank = kept[np.lexsort((-detections.scores[kept].astype(np.float64), detections.labels[kept]))]
    labels = detections.labels[rank].astype(np.int64)
    position, target, overlap = overlapping(
        ground_truth,
        detections,
        rank,
        detections.image[rank].astype(np.int64) * classes + labels,
        ground_truth.image.astype(np.int64) * classes + ground_truth.labels,
        1e-12,
    )
    best_first = np.lexsort((target, -overlap, position))
    best = best_first[is_first(position[best_first])]
    truth, largest = np.full(len(rank), -1, dtype=np.int64), np.zeros(len(rank))
    truth[position[best]], largest[position[best]] = target[best], overlap[best]
    return Nearest(rank, labels, truth, largest)

"""The score threshold that suits a baseline best, chosen on other images than those it is used on.

Chosen on the images that are then compared, it favors the baseline: F1 is as high as it gets at
that very score, and any other detector, an equally good one too, comes out lower. So images are
dealt into folds, and those of a fold are counted from the score at which F1 is best on the rest
(cross-fitting).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.f1 import calibrate
from ablate_kit.metrics.matching import Matches
from ablate_kit.metrics.uncertainty.dependent_images import families

FOLDS = 5
_SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Score thresholds of a baseline, for itself and for all that is compared with it."""

    whole: float  # with the best F1 of all images together, for what is shown at one score
    # For the images of each fold, with the best F1 of the others; empty: ``whole`` is used for all
    # images.
    folds: tuple[float, ...] = ()

    def of_images(self, ground_truth: GroundTruth) -> Floats:
        """(images,) the threshold that each image's detections count from."""
        if not self.folds:
            return np.full(len(ground_truth.image_ids), self.whole)
        return np.asarray(self.folds)[fold_of(ground_truth, len(self.folds))]


def cross_fitted(
    ground_truth: GroundTruth, detections: Detections, matches: Matches
) -> Calibration:
    """The thresholds for a baseline's detections; ``matches`` are theirs at IoU 0.5.

    A single image, or cluster of images, leaves none to choose on: its threshold is its own.
    """
    count = min(FOLDS, int(families(ground_truth).max()) + 1)
    if count < 2:
        return Calibration(calibrate(matches))
    fold = fold_of(ground_truth, count)
    found, real = fold[detections.image], fold[ground_truth.image]
    classes = len(ground_truth.classes)
    thresholds = []
    for one in range(count):
        kept = found != one
        labels = ground_truth.labels[(real != one) & ~ground_truth.ignore]
        rest = replace(
            matches,
            outcome=matches.outcome[kept],
            truth=matches.truth[kept],
            scores=matches.scores[kept],
            labels=matches.labels[kept],
            support=np.bincount(labels, minlength=classes),
        )
        thresholds.append(calibrate(rest))
    return Calibration(calibrate(matches), tuple(thresholds))


def fold_of(ground_truth: GroundTruth, count: int) -> NDArray[np.int64]:
    """(images,) which of ``count`` folds an image is in: by lot, the same for any order of them.

    Images of one cluster are in one fold.
    """
    family = families(ground_truth)
    lots = np.random.Generator(np.random.Philox(_SEED)).permutation(int(family.max()) + 1)
    return np.asarray(lots[family] % count, dtype=np.int64)

"""Detections after matching: all that average precision on any sample of the images needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import greedy_matches_at

IOUS = np.linspace(0.5, 0.95, 10)  # as COCO has them


@dataclass(frozen=True, eq=False)
class Matched:
    """What each detection counts as. Images are matched on their own, so parts join."""

    # image, labels, scores: (detections,) as of ``Detections``.
    image: NDArray[np.integer[Any]]
    labels: NDArray[np.integer[Any]]
    scores: NDArray[np.floating[Any]]
    outcomes: NDArray[np.int8]  # (ious, detections) an ``Outcome`` each

    def __len__(self) -> int:
        return len(self.image)

    @staticmethod
    def of(truth: GroundTruth, found: Detections) -> "Matched":
        outcomes = np.empty((len(IOUS), len(found)), dtype=np.int8)
        matches = greedy_matches_at(truth, found, IOUS.tolist())  # one at a time in memory
        for outcome, one in zip(outcomes, matches, strict=True):
            outcome[:] = one.outcome
        return Matched(found.image, found.labels, found.scores, outcomes)

    @staticmethod
    def joined(parts: Sequence["Matched"]) -> "Matched":
        return Matched(
            np.concatenate([one.image for one in parts]),
            np.concatenate([one.labels for one in parts]),
            np.concatenate([one.scores for one in parts]),
            np.concatenate([one.outcomes for one in parts], axis=1),
        )

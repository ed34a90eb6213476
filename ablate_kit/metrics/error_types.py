"""Why a detection is wrong and why an object is not found: the categories of TIDE.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, at its
thresholds. Two things are added for objects that are not found: a right box whose score is too low
("score"), and a right box that went to a neighbor ("duplicate").
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import Outcome, greedy_matches
from ablate_kit.metrics.overlaps import Indices, overlapping

FOREGROUND, BACKGROUND = 0.5, 0.1


class Cause(IntEnum):
    """What is wrong with a box, or between an object and the boxes around it."""

    NONE = 0
    CLASSIFICATION = 1
    LOCALIZATION = 2
    BOTH = 3
    DUPLICATE = 4
    BACKGROUND = 5
    SCORE = 6
    MISSED = 7


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of one set of detections at one score threshold.

    Attributes:
        detection: (detections,) ``Cause`` of every false positive of at least the threshold; NONE
            for true positives, ignored detections, and those below the threshold.
        truth: (truths,) ``Cause`` why an object is not found; NONE for those found and for ignored
            regions.
        threshold: detections of at least this score count.
    """

    detection: NDArray[np.int8]
    truth: NDArray[np.int8]
    threshold: float

    @property
    def false_positives(self) -> dict[Cause, int]:
        """False positives by cause."""
        counts = np.bincount(self.detection, minlength=len(Cause))
        return {cause: int(counts[cause]) for cause in Cause if cause is not Cause.NONE}


def errors(ground_truth: GroundTruth, detections: Detections, threshold: float) -> Errors:
    """The cause of every error.

    A false positive is, the first that applies: *localization*, if it overlaps an object of its
    class by 0.1 to 0.5; *classification*, if an object of another class by 0.5 or more;
    *duplicate*, if an object of its class, which is taken, by 0.5 or more; *background*, if none by
    more than 0.1; else *both*. An object that is not found has the first of: *classification*,
    *localization*, *both* from the false positives that overlap it most; *duplicate*, if a box of
    its class overlaps it by 0.5 but found a neighbor; *score*, if a box that would have found it
    has a score below the threshold; else it is *missed*.

    Raises:
        UserError: detections that point outside the ground truth.
    """
    matches = greedy_matches(ground_truth, detections, FOREGROUND)
    above = matches.scores >= threshold
    found = matches.truth[above & (matches.outcome == Outcome.TRUE_POSITIVE)]
    seen = np.flatnonzero(above & (matches.outcome != Outcome.IGNORED))
    near = _near(ground_truth, detections, seen)
    wrong = matches.outcome[seen] == Outcome.FALSE_POSITIVE
    cause = _of_detections(near, wrong)
    detection = np.zeros(len(detections), dtype=np.int8)
    detection[seen] = cause

    truth = np.full(len(ground_truth), Cause.MISSED, dtype=np.int8)
    below = np.flatnonzero(~above & (matches.outcome == Outcome.TRUE_POSITIVE))
    truth[matches.truth[below]] = Cause.SCORE
    truth[near.target[near.same & (near.overlap >= FOREGROUND)]] = Cause.DUPLICATE
    # The strongest reason last, so that it stays.
    for reason, pair in (
        (Cause.BOTH, ~near.same & (near.overlap < FOREGROUND)),
        (Cause.LOCALIZATION, near.same & (near.overlap < FOREGROUND)),
        (Cause.CLASSIFICATION, ~near.same & (near.overlap >= FOREGROUND)),
    ):
        truth[near.target[pair & (cause[near.row] == reason)]] = reason
    truth[found] = Cause.NONE
    truth[ground_truth.ignore] = Cause.NONE
    return Errors(detection, truth, float(threshold))


@dataclass(frozen=True, eq=False)
class _Near:
    """Every pair of a box and an object to be found that overlap by BACKGROUND or more."""

    row: Indices
    target: Indices
    overlap: NDArray[np.float64]
    same: NDArray[np.bool_]


def _near(ground_truth: GroundTruth, detections: Detections, rows: Indices) -> _Near:
    row, target, overlap = overlapping(
        ground_truth,
        detections,
        rows,
        detections.image[rows].astype(np.int64),
        ground_truth.image.astype(np.int64),
        BACKGROUND,
    )
    real = ~ground_truth.ignore[target]
    row, target, overlap = row[real], target[real], overlap[real]
    same = detections.labels[rows[row]] == ground_truth.labels[target]
    return _Near(row, target, overlap, same)


def _of_detections(near: _Near, wrong: NDArray[np.bool_]) -> NDArray[np.int8]:
    own, other = np.zeros(len(wrong)), np.zeros(len(wrong))
    np.maximum.at(own, near.row[near.same], near.overlap[near.same])
    np.maximum.at(other, near.row[~near.same], near.overlap[~near.same])
    cause = np.select(
        [
            ~wrong,
            (own >= BACKGROUND) & (own < FOREGROUND),
            other >= FOREGROUND,
            own >= FOREGROUND,
            np.maximum(own, other) <= BACKGROUND,
        ],
        [Cause.NONE, Cause.LOCALIZATION, Cause.CLASSIFICATION, Cause.DUPLICATE, Cause.BACKGROUND],
        Cause.BOTH,
    )
    return cause.astype(np.int8)

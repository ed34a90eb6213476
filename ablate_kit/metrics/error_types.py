"""Why a detection is wrong and why an object is not found: the categories of TIDE.

Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, at its
thresholds. Two things are added for objects that are not found: a right box whose score is too low
("score"), and a right box that went to a neighbor ("duplicate"). Of an object that one set of
detections finds and another does not, ``transitions`` asks which of these there are more of.
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


# Of an object that is not found.
_STRONGEST = (Cause.CLASSIFICATION, Cause.LOCALIZATION, Cause.BOTH, Cause.DUPLICATE, Cause.SCORE)


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of one set of detections at one score threshold."""

    # (detections,) ``Cause`` of every false positive of at least the threshold; NONE for true
    # positives, ignored detections, and those below the threshold.
    detection: NDArray[np.int8]
    # (truths,) ``Cause`` why an object is not found; NONE for those found and for ignored regions.
    truth: NDArray[np.int8]
    # (truths, causes) how many boxes there are around an object, found or not, that would be such a
    # cause; its own box is none.
    around: Indices
    threshold: float  # detections of at least this score count

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
    *localization*, *both*, if there is such a false positive that overlaps it so; *duplicate*, if a
    box of its class overlaps it by 0.5 but found a neighbor; *score*, if a box that would have
    found it has a score below the threshold; else it is *missed*.

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

    around = np.zeros((len(ground_truth), len(Cause)), dtype=np.int64)
    below = np.flatnonzero(~above & (matches.outcome == Outcome.TRUE_POSITIVE))
    around[matches.truth[below], Cause.SCORE] = 1
    close, caused = near.overlap >= FOREGROUND, cause[near.row]
    for reason, pair in (
        (Cause.CLASSIFICATION, ~near.same & close & (caused == Cause.CLASSIFICATION)),
        (Cause.LOCALIZATION, near.same & ~close & (caused == Cause.LOCALIZATION)),
        (Cause.BOTH, ~near.same & ~close & (caused == Cause.BOTH)),
        (Cause.DUPLICATE, near.same & close & (matches.truth[seen[near.row]] != near.target)),
    ):
        np.add.at(around[:, reason], near.target[pair], 1)
    truth = first_cause(around)
    truth[found] = Cause.NONE
    truth[ground_truth.ignore] = Cause.NONE
    return Errors(detection, truth, around, float(threshold))


def first_cause(around: Indices) -> NDArray[np.int8]:
    """(truths,) the strongest cause of which there is anything around an object, else MISSED."""
    truth = np.full(len(around), Cause.MISSED, dtype=np.int8)
    for reason in reversed(_STRONGEST):
        truth[around[:, reason] > 0] = reason
    return truth


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

"""What changed between a baseline and a variant: which objects were lost or gained, and why."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.error_types import Cause, Errors, first_cause

# COCO's: square pixels.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, float("inf"))}


@dataclass(frozen=True, eq=False)
class Transitions:
    """The objects whose fate differs, at one score threshold."""

    lost: NDArray[np.bool_]  # (truths,) found by the baseline, not by the variant
    gained: NDArray[np.bool_]  # (truths,) found by the variant, not by the baseline
    # (truths,) ``Cause`` of a lost object in the variant, of a gained one in the baseline: the
    # strongest of which there is more around it than in the other, where it is found.
    cause: NDArray[np.int8]
    # before, after: the errors of the two.
    before: Errors
    after: Errors

    def tally(self, of: NDArray[np.bool_]) -> dict[Cause, int]:
        """How many of some objects there are by cause."""
        counts = np.bincount(self.cause[of], minlength=len(Cause))
        return {cause: int(counts[cause]) for cause in Cause if cause is not Cause.NONE}


@dataclass(frozen=True)
class ObjectGroup:
    """The objects of one class and one of COCO's sizes."""

    label: str
    size: str
    support: int
    found_before: int
    found_after: int
    lost: int
    gained: int
    lost_to: dict[Cause, int]


def changes(ground_truth: GroundTruth, before: Errors, after: Errors) -> Transitions:
    """Compare the errors of two sets of detections of one ground truth.

    What is around an object in both explains no difference: of objects whose box lost nothing but
    its score, 28 % would be put down to boxes that were there before
    (``benchmarks/injected_causes.py``).

    Raises:
        UserError: errors of another ground truth.
    """
    if not len(before.truth) == len(after.truth) == len(ground_truth):
        raise UserError("the errors that are compared are not of the same ground truth")
    real = ~ground_truth.ignore
    found_before, found_after = before.truth == Cause.NONE, after.truth == Cause.NONE
    lost, gained = real & found_before & ~found_after, real & ~found_before & found_after
    of_lost = first_cause(after.around - before.around)
    of_gained = first_cause(before.around - after.around)
    cause = np.where(lost, of_lost, np.where(gained, of_gained, Cause.NONE))
    return Transitions(lost, gained, cause.astype(np.int8), before, after)


def groups(ground_truth: GroundTruth, found: Transitions) -> Iterator[ObjectGroup]:
    """Per class and size, where there are objects; then all classes together, as ``all``."""
    real = ~ground_truth.ignore
    for index, label in enumerate((*ground_truth.classes, "all")):
        every = index == len(ground_truth.classes)
        of_class = real if every else real & (ground_truth.labels == index)
        for size, (low, high) in {**SIZES, "all": (-np.inf, np.inf)}.items():
            inside = of_class & (ground_truth.areas >= low) & (ground_truth.areas < high)
            if not inside.any():
                continue
            yield ObjectGroup(
                label=label,
                size=size,
                support=int(inside.sum()),
                found_before=int((found.before.truth[inside] == Cause.NONE).sum()),
                found_after=int((found.after.truth[inside] == Cause.NONE).sum()),
                lost=int((inside & found.lost).sum()),
                gained=int((inside & found.gained).sum()),
                lost_to=found.tally(inside & found.lost),
            )

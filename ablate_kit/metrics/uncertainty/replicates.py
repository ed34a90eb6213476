"""One change in several checkpoints, on the same images: what holds of all of them.

*Of these checkpoints.* What costs more than the margin in every one of them does so by a test of
each, and all of them have to say it: the intersection-union test (Berger 1982), which takes no
adjustment for how many checkpoints there are. Of several cuts its p, the largest of all
checkpoints, is adjusted by Holm's procedure: where each has other cuts close to the margin, the
errors of their own adjusted verdicts add up. That they differ is Hotelling's test (1931) of the
differences between them: the error of each is that of every change (``chance``), and which move
together is told by the resamples. T² is t² of the weighted sum that is farthest off, and as much
less as skewness takes of that.

*Of checkpoints like these.* Chance are the images and the checkpoints, such as seeds of a training.
The interval of the mean holds both (``two_chances``; ``benchmarks/simulated_replicates.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import fdtrc, stdtrit  # quicker by far than scipy.stats

from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled
from ablate_kit.metrics.uncertainty.chance import LEVEL, paired_test
from ablate_kit.metrics.uncertainty.multiplicity import holm
from ablate_kit.metrics.uncertainty.repeats import average
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.two_chances import TwoChances
from ablate_kit.metrics.uncertainty.verdict import (
    Outcome,
    against_margin,
    free_takes,
    images_that_tell,
)

FEWEST = 3  # checkpoints that an interval over checkpoints takes
_LEAST = 1e-300  # p of which Student's t is finite
_SMALL = 1e-9  # of the largest variance in any direction: below, there is none in that one


@dataclass(frozen=True)
class Replicated:
    """The change of one metric by the same cut in several checkpoints; None: not defined."""

    changes: tuple[Change, ...]  # in each of them, with the interval and verdict over images
    mean: float | None  # of the changes
    # low, high: 95 % interval of the mean over checkpoints and images like these; None of fewer
    # than three checkpoints, and where all change alike on all images.
    low: float | None
    high: float | None
    deviation: float | None  # standard deviation of the changes between checkpoints
    # That images alone make them differ so much, adjusted over the cuts (Holm).
    p_differ: float | None
    # The verdict that all of them have, where it holds of all after adjustment over the cuts;
    # ``differ`` where they have several and their changes differ significantly; else ``undecided``.
    # None without verdicts.
    outcome: Outcome | Literal["differ"] | None = None
    # The verdict of that interval, on checkpoints like these: of this cut alone, not adjusted for
    # others. None without it, and where a checkpoint has no verdict.
    of_like: Outcome | None = None

    @property
    def differs(self) -> bool:
        return self.p_differ is not None and self.p_differ < 1 - LEVEL


def replicated(
    changes: Sequence[Sequence[Change]], differences: Sequence[Sequence[Sampled]]
) -> list[Replicated]:
    """Of each cut what its changes in several checkpoints come to.

    Args:
        changes: by cut and checkpoint.
        differences: the same against each checkpoint's own baseline, on the same resamples of the
            same images.
    """
    differ = holm([_p_differ(one) for one in differences])
    in_all = holm([_p_in_all(*one) for one in zip(changes, differences, strict=True)])
    return [
        _replicated(tuple(own), drawn, p, p_all is not None and p_all < 1 - LEVEL)
        for own, drawn, p, p_all in zip(changes, differences, differ, in_all, strict=True)
    ]


def _replicated(
    changes: tuple[Change, ...], drawn: Sequence[Sampled], p_differ: float | None, holds: bool
) -> Replicated:
    values = np.array([one.value for one in drawn])
    if not np.isfinite(values).all():
        outcome = _outcome(changes, differ=False, holds=False)
        return Replicated(changes, None, None, None, None, None, outcome)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    differ = p_differ is not None and p_differ < 1 - LEVEL
    outcome = _outcome(changes, differ=differ, holds=holds)
    test = _test(drawn, deviation)
    low, high = test.ends() if test else (None, None)
    of_like = _of_like(changes, test) if test else None
    return Replicated(changes, mean, low, high, deviation, p_differ, outcome, of_like)


def _test(drawn: Sequence[Sampled], deviation: float) -> TwoChances | None:
    """Of the mean, over checkpoints and images."""
    count = len(drawn)
    images = paired_test(average(drawn))
    if count < FEWEST or images is None:
        return None
    return TwoChances(images, deviation / count**0.5, count - 1)


def _of_like(changes: Sequence[Change], test: TwoChances) -> Outcome | None:
    """What the interval of the mean says against the margin; free takes as many images that show an
    object as it does of one checkpoint."""
    low, high = test.ends()
    margins = [one.verdict.margin for one in changes if one.verdict is not None]
    if len(margins) < len(changes) or low is None or high is None:
        return None
    margin = margins[0]
    if high < -margin:
        return "costs"
    if low > margin:
        return "gains"
    enough = images_that_tell(test.images) >= free_takes(margin)
    return "free" if enough and -margin < low and high < margin else "undecided"


def _p_differ(drawn: Sequence[Sampled]) -> float | None:
    """That images alone make the checkpoints' changes differ so much (Hotelling's T²)."""
    apart = [one - drawn[0] for one in drawn[1:]]
    tests = [paired_test(one) for one in apart]
    known = [one for one in tests if one is not None]
    if len(known) < len(tests):
        return None
    chance = [(one, test) for one, test in zip(apart, known, strict=True) if test.error]
    if any(test.change for test in known if not test.error):
        return None
    if not chance:
        return 1.0
    resampled: Floats = np.stack([one.resampled for one, _ in chance])
    together = np.corrcoef(resampled[:, np.isfinite(resampled).all(axis=0)])
    variances, directions = np.linalg.eigh(np.atleast_2d(together))
    free = variances > _SMALL * variances.max()
    rank, freedom = int(free.sum()), min(test.freedom for _, test in chance)
    if freedom < rank:
        return None
    errors = np.array([test.error for _, test in chance])
    away = np.array([test.change for _, test in chance]) / errors
    weights = directions[:, free] @ ((directions.T @ away)[free] / variances[free])
    t2 = float(weights @ away) * _less_skewness([one for one, _ in chance], weights / errors)
    left = freedom + 1 - rank
    return float(fdtrc(rank, left, t2 * left / (rank * freedom)))


def _less_skewness(apart: Sequence[Sampled], weights: Floats) -> float:
    """The share that skewness leaves of T², which is t² of the sum that is farthest off."""
    farthest = replace(
        apart[0],
        value=float(weights @ [one.value for one in apart]),
        resampled=weights @ [one.resampled for one in apart],
        left_out=weights @ [one.left_out for one in apart],
    )
    test = paired_test(farthest)
    if test is None or not test.error or not test.change:
        return 1.0
    errors = float(stdtrit(test.freedom, max(test.p, _LEAST) / 2))
    return min(1.0, (errors * test.error / test.change) ** 2)


def _p_in_all(changes: Sequence[Change], drawn: Sequence[Sampled]) -> float | None:
    """That a cut is not on its side of the margin in every checkpoint."""
    largest = 0.0
    for change, difference in zip(changes, drawn, strict=True):
        test = paired_test(difference)
        if change.verdict is None or test is None:
            return None
        largest = max(largest, against_margin(test, change.verdict.margin).p)
    return largest


def _outcome(
    changes: Sequence[Change], *, differ: bool, holds: bool
) -> Outcome | Literal["differ"] | None:
    verdicts = [one.verdict.outcome for one in changes if one.verdict is not None]
    if len(verdicts) < len(changes):
        return None
    if len(set(verdicts)) == 1:
        return verdicts[0] if holds else "undecided"
    return "differ" if differ else "undecided"

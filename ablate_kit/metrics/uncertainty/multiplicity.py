"""p-values of several changes, adjusted for how many are asked about.

The step-down max-T procedure (Westfall and Young 1993) keeps the chance of any false star at 5 %
and, other than Holm's, knows from the resamples which variants move together. For exploring,
``fdr`` keeps the expected share of false stars among the stars at 5 % (Benjamini and Hochberg
1995).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from scipy.special import ndtr, ndtri  # quicker by far than scipy.stats

from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.chance import LEVEL, PairedTest

# Degrees of freedom of a change below which its resamples tell too little of how far the largest of
# several goes: those of two images, which take three values, left 67 % of studies of 24 variants
# with a false star (three: 32 %, five: 16 %, ten: 7 %; ``benchmarks/simulated_stars.py``).
LEAST_FREEDOM = 19

Adjust = Literal["family", "fdr"]
ADJUST = get_args(Adjust)


def tells_little(test: PairedTest) -> bool:
    """Whether a change is adjusted by Holm's procedure, whatever the resamples show."""
    return test.freedom < LEAST_FREEDOM


def adjusted_p(tests: Sequence[PairedTest], adjust: Adjust) -> list[float]:
    """Adjusted p-values, none of them below its own."""
    if adjust not in ADJUST:
        raise UserError(f'cannot adjust by "{adjust}"; expected {" or ".join(ADJUST)}')
    if adjust == "family":
        return max_t(tests)
    from scipy.stats import false_discovery_control  # which takes a third of a second to load

    return [float(p) for p in false_discovery_control([one.p for one in tests])]


def max_t(tests: Sequence[PairedTest]) -> list[float]:
    """Adjusted p-values: step-down max-T (Westfall and Young 1993), from the joint resamples.

    Changes are ranked by p. Each is compared with the largest of those that are not ranked before
    it, on every resample, in the units of a normal distribution. Beyond the farthest resample the
    share of those that are as far counts, or what Bonferroni says of as many where that is less; so
    it does where few images tell of a change, by Holm's procedure. No adjusted p is below its own.
    """
    order = sorted(range(len(tests)), key=lambda i: tests[i].p)
    adjusted = [1.0] * len(tests)
    if not tests:
        return adjusted
    largest = np.zeros(len(tests[0].resampled))
    steps = []
    for members, i in enumerate(reversed(order), start=1):
        np.maximum(largest, np.abs(tests[i].resampled), out=largest)
        p = tests[i].p
        away, farthest = -ndtri(p / 2), largest.max(initial=0.0)
        seen = (1 + int((largest >= min(away, farthest)).sum())) / (1 + len(largest))
        if away > farthest:
            seen = min(seen, members * p)
        if tells_little(tests[i]):
            seen = max(seen, members * p)
        steps.append((i, p if members == 1 else max(p, seen)))
    highest = 0.0
    for i, p in reversed(steps):
        highest = max(highest, min(p, 1.0))
        adjusted[i] = highest
    return adjusted


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979), for tests without joint resamples: the k-th smallest of m
    is multiplied by m - k + 1, and none is smaller than one before it."""
    known = sorted((p, i) for i, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    highest = 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = highest
    return adjusted


def first_needs(tests: Sequence[PairedTest], adjust: Adjust) -> float:
    """The p that the first of all variants needs: that of the largest of them all by chance."""
    if len(tests) < 2 or adjust == "fdr":
        return 1 - LEVEL
    if all(map(tells_little, tests)):
        return (1 - LEVEL) / len(tests)
    largest = np.max([np.abs(one.resampled) for one in tests], axis=0)
    far = np.quantile(largest, LEVEL)
    bound = 2 * float(ndtr(-far)) if far < largest.max() else 0.0  # as far as any resample
    return min(1 - LEVEL, max(bound, (1 - LEVEL) / len(tests)))

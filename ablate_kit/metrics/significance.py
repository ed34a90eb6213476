"""Which changes are more than another sample of images would make: intervals, p-values, stars.

**Interval and p-value are one test.** The change over its standard error is held against Student's
t; the 95 % interval leaves out 0 exactly where p < 0.05. What is chosen here was chosen by
simulation (``benchmarks/coverage.py``):

* *Standard error.* The bootstrap's is too small where few images show a class: of k images it sees
  (k - 1) / k of the variance. The jackknife's, leaving out one image at a time, is too large, by
  k / (k - 1) and more. A geometric mean of the two, three parts to two, is neither.
* *Degrees of freedom.* Images - 1; for quotients of sums over images fewer where few images make
  most of the change: Satterthwaite's, 2 n / (kurtosis - 1) of the jackknife's values.

**Several variants.** The star counts how many are asked about: p-values are adjusted by the
step-down max-T procedure (Westfall and Young 1993), which keeps the chance of any false star at 5 %
and, other than Holm's, knows from the resamples which variants move together. For exploring,
``adjust="fdr"`` keeps the expected share of false stars among the stars at 5 % (Benjamini and
Hochberg 1995).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # quicker by far than scipy.stats

from ablate_kit.errors import UserError
from ablate_kit.metrics.bootstrap import Floats, Sampled, Samples
from ablate_kit.metrics.headline import KEYS

LEVEL = 0.95
POWER = 0.8
FEW_IMAGES = 30  # below, intervals are said to be rough
_OF_BOOTSTRAP = 0.6  # weight of the bootstrap's standard error beside the jackknife's
_ROUNDING = 1e-12  # a standard error below is that of sums taken in another order
_FEWEST = 6  # images that all change alike, for that to be no chance: 2 / 2^6 < 0.05, a sign test

Adjust = Literal["family", "fdr"]
ADJUST = get_args(Adjust)


@dataclass(frozen=True)
class Change:
    """A variant's change of one metric against the baseline; None where it is not defined.

    Attributes:
        value: of the variant.
        change: against the baseline.
        low, high: 95 % interval of the change, which leaves out 0 exactly where p < 0.05.
        error: standard error of the change.
        p: two-sided, of no change.
        p_adjusted: for all variants that are tested, by metric; never below ``p``.
        detectable: the size of a change that would be significant after the adjustment four times
            out of five, if its standard error is this one.
    """

    value: float | None
    change: float | None
    low: float | None
    high: float | None
    error: float | None
    p: float | None
    p_adjusted: float | None
    detectable: float | None

    @property
    def significant(self) -> bool:
        return self.p_adjusted is not None and self.p_adjusted < 1 - LEVEL

    def to_dict(self) -> dict[str, float | None]:
        return asdict(self)


Changes = Mapping[str, Change]  # by metric


def moves_apart(change: Changes) -> bool:
    """Whether AP and penalized GIoU both change significantly, one up and one down.

    GIoU does not see false alarms: it rises where a detector floods the image.
    """
    ap, giou = change["AP"], change["giou_penalized"]
    if not (ap.significant and giou.significant) or ap.change is None or giou.change is None:
        return False
    return ap.change * giou.change < 0


@dataclass(frozen=True, eq=False)
class AgainstChance:
    """One change held against chance, by itself.

    Attributes:
        change: against the baseline.
        error: standard error of it.
        freedom: degrees of freedom of Student's t.
        resampled: how far the change moves on each resample, in standard deviations.
    """

    change: float
    error: float
    freedom: float
    resampled: Floats

    @cached_property
    def p(self) -> float:
        if self.error == 0:
            return float(self.change == 0)
        return 2 * float(stdtr(self.freedom, -abs(self.change) / self.error))

    @property
    def half(self) -> float:
        return float(stdtrit(self.freedom, (1 + LEVEL) / 2)) * self.error


def changes(
    baseline: Samples,
    variants: Sequence[Samples],
    tested: Sequence[bool] | None = None,
    adjust: Adjust = "family",
) -> list[dict[str, Change]]:
    """Each variant's change of every metric, with its interval; p-values adjusted by metric.

    ``tested`` says which variants are adjusted for, by default all; others, such as random
    controls, get no adjusted p-value and are never significant.
    """
    asked = [True] * len(variants) if tested is None else tested
    found: list[dict[str, Change]] = [{} for _ in variants]
    for metric in KEYS:
        after = [variant.overall[metric] for variant in variants]
        rows = _changes(after, [one - baseline.overall[metric] for one in after], asked, adjust)
        for one, row in zip(found, rows, strict=True):
            one[metric] = row
    return found


def class_changes(baseline: Samples, variant: Samples, adjust: Adjust = "family") -> list[Change]:
    """The change of each class's AP; p-values adjusted over the classes."""
    after = variant.ap_per_class
    pairs = zip(after, baseline.ap_per_class, strict=True)
    return _changes(after, [one - before for one, before in pairs], [True] * len(after), adjust)


def held_against_chance(difference: Sampled) -> AgainstChance | None:
    """None where there is no telling: not defined, or defined by a single image."""
    resampled = difference.resampled[np.isfinite(difference.resampled)]
    rest, images = difference.left_out, difference.images
    if not np.isfinite(difference.value) or len(resampled) < 2:
        return None
    if images < 2 or not np.isfinite(rest).all():
        return None
    groups = len(rest)
    influence = rest.mean() - rest
    total = float((influence**2).sum())
    jackknife = (groups - 1) / groups * total
    bootstrap = float(resampled.var(ddof=1)) * images / (images - 1)
    error = float(bootstrap ** (_OF_BOOTSTRAP / 2) * jackknife ** ((1 - _OF_BOOTSTRAP) / 2))
    if error < _ROUNDING:
        error = 0.0
    if not error and difference.value and images < _FEWEST:
        return None
    freedom = images - 1.0
    if difference.ratio and total:
        kurtosis = groups * float((influence**4).sum()) / total**2
        # Of images, or where they are left out in groups, of the groups' sums, which are as many.
        freedom = min(freedom, 2 * groups / (kurtosis - 1 + 2 / (groups - 1)))
    spread = float(resampled.std(ddof=1))
    away = np.zeros(len(difference.resampled))
    if spread:
        away = np.nan_to_num((difference.resampled - resampled.mean()) / spread)
    return AgainstChance(difference.value, error, freedom, away)


def max_t(tests: Sequence[AgainstChance]) -> list[float]:
    """Adjusted p-values: step-down max-T (Westfall and Young 1993), from the joint resamples.

    Changes are ranked by p. Each is held against the largest of those that are not ranked before
    it, on every resample, in the units of a normal distribution. Beyond what any resample shows,
    what Bonferroni says of as many counts. No adjusted p is below its own.
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
        exceeded = int((largest >= -ndtri(p / 2)).sum())
        seen = (1 + exceeded) / (1 + len(largest))
        if not exceeded:
            seen = min(seen, members * p)
        steps.append((i, p if members == 1 else max(p, seen)))
    highest = 0.0
    for i, p in reversed(steps):
        highest = max(highest, min(p, 1.0))
        adjusted[i] = highest
    return adjusted


def benjamini_hochberg(values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the false discovery rate (Benjamini and Hochberg 1995)."""
    order = sorted(range(len(values)), key=lambda i: values[i], reverse=True)
    adjusted = [1.0] * len(values)
    lowest = 1.0
    for rank, i in zip(range(len(values), 0, -1), order, strict=True):
        lowest = min(lowest, values[i] * len(values) / rank)
        adjusted[i] = lowest
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


def _changes(
    after: Sequence[Sampled],
    differences: Sequence[Sampled],
    asked: Sequence[bool],
    adjust: Adjust,
) -> list[Change]:
    if adjust not in ADJUST:
        raise UserError(f'cannot adjust by "{adjust}"; expected {" or ".join(ADJUST)}')
    tests = [held_against_chance(one) for one in differences]
    known = [one for one, ask in zip(tests, asked, strict=True) if one is not None and ask]
    if adjust == "family":
        adjusted = iter(max_t(known))
        needed = _needed(known)
    else:
        adjusted = iter(benjamini_hochberg([one.p for one in known]))
        needed = 1 - LEVEL
    rows = []
    for one, difference, test, ask in zip(after, differences, tests, asked, strict=True):
        value = float(one.value) if np.isfinite(one.value) else None
        if test is None:
            change = float(difference.value) if np.isfinite(difference.value) else None
            rows.append(Change(value, change, *[None] * 6))
            continue
        rows.append(
            Change(
                value=value,
                change=float(test.change),
                low=float(test.change) - test.half,
                high=float(test.change) + test.half,
                error=test.error,
                p=test.p,
                p_adjusted=next(adjusted) if ask else None,
                detectable=_detectable(test, needed) if ask else None,
            )
        )
    return rows


def _needed(tests: Sequence[AgainstChance]) -> float:
    """The p that the first of all variants needs: that of the largest of them all by chance."""
    if len(tests) < 2:
        return 1 - LEVEL
    largest = np.max([np.abs(one.resampled) for one in tests], axis=0)
    bound = 2 * float(ndtr(-np.quantile(largest, LEVEL)))
    return min(1 - LEVEL, max(bound, (1 - LEVEL) / len(tests)))


def _detectable(test: AgainstChance, needed: float) -> float | None:
    if test.error == 0:
        return None
    factor = stdtrit(test.freedom, 1 - needed / 2) + stdtrit(test.freedom, POWER)
    return float(factor) * test.error

"""One change, held against chance: its standard error, its degrees of freedom, its p-value.

**Interval and p-value are one test.** The change over its standard error is held against Student's
t; the 95 % interval leaves out 0 exactly where p < 0.05. What is chosen here was chosen by
simulation (``benchmarks/interval_coverage.py``):

* *Standard error.* The bootstrap's is too small where few images show a class: of k images it sees
  (k - 1) / k of the variance. The jackknife's, leaving out one image at a time, is too large, by
  k / (k - 1) and more. A geometric mean of the two, three parts to two, is neither.
* *Degrees of freedom.* Images - 1; for quotients of sums over images fewer where few images make
  most of the change: Satterthwaite's, 2 n / (kurtosis - 1) of the jackknife's values.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtr, stdtrit  # quicker by far than scipy.stats

from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled

LEVEL = 0.95
FEWEST = 6  # images that all change alike, for that to be no chance: 2 / 2^6 < 0.05, a sign test
_OF_BOOTSTRAP = 0.6  # weight of the bootstrap's standard error beside the jackknife's
_ROUNDING = 1e-12  # a standard error below is that of sums taken in another order


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
    value = difference.value
    if error < _ROUNDING:  # and so may be the change: nothing at all, in sums of another order
        error, value = 0.0, 0.0 if abs(value) < _ROUNDING else value
    if not error and value and images < FEWEST:
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
    return AgainstChance(value, error, freedom, away)

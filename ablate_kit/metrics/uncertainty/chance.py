"""The test of one paired difference: its standard error, its degrees of freedom, its p-value.

**Interval and p-value are one test.** The change over its standard error is compared with Student's
t; the 95 % interval leaves out 0 exactly where p < 0.05. What is chosen here was chosen by
simulation (``benchmarks/interval_coverage.py``):

* *Standard error.* The bootstrap's is too small where few images show a class: of k images it sees
  (k - 1) / k of the variance. The jackknife's, leaving out one image at a time, is too large, by
  k / (k - 1) and more. A geometric mean of the two, three parts to two, is neither.
* *Degrees of freedom.* Images - 1, of AP those that show an object: where 5 of 200 do, a p below
  0.002 would come up six times as often. Of clusters fewer where a few hold most of the images
  (``dependent_images.freedom``): with clusters - 1 up to 22 % of intervals missed the truth where
  the largest change most (``benchmarks/simulated_clusters.py``). For quotients of sums over images
  fewer where few images make most of the change: Satterthwaite's, 2 n / (kurtosis - 1) of the
  jackknife's values.
* *Skewness.* Where a few images lose much and the others gain a little, a study that misses those
  sees a gain and a small error. A change of this skewness is carried by so many images as a count
  with it (Poisson's) has on average, 1 / skewness^2; how many more these might have been is told by
  the exact bound of a count (Garwood 1936), by the cube root of Wilson and Hilferty (1931). On the
  side to which the rare images pull, that is farther away than Student's t. Skewness is that of
  the resamples, as far as it exceeds its deviation where nothing is skewed, sqrt(6 / n^2 + 6 / B)
  of n images and B resamples. The jackknife's is the same of sums over images. Of AP it is not:
  where images show classes that few others do, it had the wrong sign every second time.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtr, stdtrit  # quicker by far than scipy.stats

from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled

LEVEL = 0.95
_OF_BOOTSTRAP = 0.6  # weight of the bootstrap's standard error beside the jackknife's
_ROUNDING = 1e-12  # a standard error below is that of sums taken in another order


@dataclass(frozen=True, eq=False)
class PairedTest:
    """The test of one change, by itself, not adjusted for others.

    Attributes:
        change: against the baseline.
        error: standard error of it.
        freedom: degrees of freedom of Student's t.
        resampled: how far the change moves on each resample, in standard deviations, without its
            skewness.
        skew: of the change itself, so that of n images over the root of n.
    """

    change: float
    error: float
    freedom: float
    resampled: Floats
    skew: float = 0.0

    @cached_property
    def p(self) -> float:
        """Two-sided, of no change."""
        if self.error == 0:
            return alike(self.freedom) if self.change else 1.0
        return 2 * float(stdtr(self.freedom, -self.away))

    @property
    def away(self) -> float:
        """How many standard errors the change is, less what skewness takes."""
        return _away(self.change / self.error, self.skew)

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """The true changes of which p is not below ``level``."""
        far = float(stdtrit(self.freedom, 1 - level / 2))
        farther = _far(far, self.skew)
        below, above = (farther, far) if self.skew < 0 else (far, farther)
        return self.change - below * self.error, self.change + above * self.error

    def ends(self, level: float = 1 - LEVEL) -> tuple[float, float] | tuple[None, None]:
        """The interval as it is told: none where all images show the same change, such as none at
        all, since nothing says how far others would. From one number to the same one, it left out
        the truth of four classes out of five (``benchmarks/class_coverage.py``)."""
        return self.interval(level) if self.error else (None, None)


def alike(freedom: float) -> float:
    """Two-sided p of a change that every image shows alike: a sign test, 2 / 2^images.

    Nothing else tells how far chance may be trusted where no two images differ.
    """
    return float(2.0**-freedom)


def _away(errors: float, skew: float) -> float:
    """How far a change lies off, in standard deviations of a normal distribution."""
    size = abs(errors)
    if skew * errors >= 0:
        return size
    images = 1 / skew**2
    above = (size * np.sqrt(images) - 1) / (images + 1)
    root = np.expm1(np.log1p(above) / 3)
    counted = 3 * np.sqrt(images + 1) * (root + 1 / (9 * (images + 1)))
    return min(size, max(0.0, float(counted)))


def _far(deviations: float, skew: float) -> float:
    """The inverse of that on the side to which rare images pull: standard errors."""
    if skew == 0:
        return deviations
    images = 1 / skew**2
    part = deviations / (3 * np.sqrt(images + 1)) - 1 / (9 * (images + 1))
    above = (images + 1) * np.expm1(3 * np.log1p(part)) + 1
    return max(deviations, float(above / np.sqrt(images)))


def _skew(away: Floats, images: int) -> float:
    """Of standardized resamples, without what those of a normal sample of so many images show."""
    skew = float((away**3).mean())
    chance = np.sqrt(6 / images**2 + 6 / len(away))
    return float(np.copysign(max(0.0, abs(skew) - chance), skew))


def _normal(away: Floats, skew: float) -> Floats:
    """Standardized values of this skewness as those of a normal distribution (Wilson and Hilferty
    1931): they are compared with those of other changes, and with p-values.

    Of this skewness none is farther than 2 / skew on the short side. Where one is, they stay as
    they are, since the formula would put it so far off that no other change had a star.
    """
    share = 1 + skew * away / 2
    if skew == 0 or share.min() <= 0:
        return away
    return 6 / skew * (np.cbrt(share) - 1) + skew / 6


def paired_test(difference: Sampled) -> PairedTest | None:
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
    freedom = images - 1.0 if difference.freedom is None else difference.freedom
    if not error and value and alike(freedom) >= 1 - LEVEL:
        return None
    if difference.ratio and total:
        kurtosis = groups * float((influence**4).sum()) / total**2
        # Of images, or where they are left out in groups, of the groups' sums, which are as many.
        freedom = min(freedom, 2 * groups / (kurtosis - 1 + 2 / (groups - 1)))
    spread = float(resampled.std(ddof=1))
    away, skew = np.zeros(len(difference.resampled)), 0.0
    if spread:
        away = np.nan_to_num((difference.resampled - resampled.mean()) / spread)
    if error:
        skew = _skew((resampled - resampled.mean()) / spread, images)
    return PairedTest(value, error, freedom, _normal(away, skew), skew)

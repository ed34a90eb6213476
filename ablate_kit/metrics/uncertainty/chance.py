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
  side to which the rare images pull, that is farther away than a normal deviate, and Student's t is
  taken of it; of ten degrees of freedom at least, since fewer tell of the same few images again.
  Skewness is that of the resamples, less what B of them show of none, 6 / B of its square, and not
  more than that of a count of one. Few images hide some: toward either side it may be larger by
  three quarters of its deviation where nothing is skewed. Had it to exceed that deviation instead,
  29 % of studies of 24 variants on 20 images, some of which lose much, had a false star, and 17 %
  of those on 40 (``benchmarks/simulated_stars.py``). The jackknife's skewness is the same of sums
  over images. Of AP it is not: where images show classes that few others do, it had the wrong sign
  every second time.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit  # quicker by far than scipy.stats

from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled

LEVEL = 0.95
_OF_BOOTSTRAP = 0.6  # weight of the bootstrap's standard error beside the jackknife's
_HIDDEN = 0.75  # standard deviations of skewness
_LEAST = 10.0  # degrees of freedom
_FARTHEST = 37.0  # deviations whose tail is a float
_ROUNDING = 1e-12  # a standard error below is that of sums taken in another order


@dataclass(frozen=True, eq=False)
class PairedTest:
    """The test of one change, by itself, not adjusted for others."""

    change: float  # against the baseline
    error: float  # standard error of it
    freedom: float  # degrees of freedom of Student's t
    resampled: Floats  # how far the change moves on each resample, as normal deviates
    skew: float = 0.0  # of the change itself, so that of n images over the root of n

    @cached_property
    def p(self) -> float:
        """Two-sided, of no change."""
        if self.error == 0:
            return alike(self.freedom) if self.change else 1.0
        errors = self.change / self.error
        normal = -float(ndtri(stdtr(self._least_freedom, -abs(errors))))
        below, above = self._pulls()
        skewed = ndtr(-_away(normal, below if errors > 0 else above))
        return 2 * float(max(stdtr(self.freedom, -abs(errors)), skewed))

    def reach(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """How many standard errors the interval reaches below the change, and above it."""
        far, least = -float(ndtri(level / 2)), -float(stdtrit(self.freedom, level / 2))
        farther = [min(_far(far, pull), _FARTHEST) for pull in self._pulls()]
        below, above = -stdtrit(self._least_freedom, ndtr(np.negative(farther)))
        return max(least, float(below)), max(least, float(above))

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """The true changes of which p is not below ``level``."""
        below, above = self.reach(level)
        return self.change - below * self.error, self.change + above * self.error

    def on_more(self, times: float) -> "PairedTest":
        """Of the same change, on so many times the images."""
        root = times**0.5
        return replace(
            self, error=self.error / root, freedom=self.freedom * times, skew=self.skew / root
        )

    @property
    def _least_freedom(self) -> float:
        """Of Student's t beyond what skewness takes, as less tells of the same few images again."""
        return max(self.freedom, _LEAST)

    def _pulls(self) -> tuple[float, float]:
        """Skewness toward what is below and above, as large as it may be: one image at least
        carries a change."""
        images = self.freedom + 1
        variance = 6 * max(images - 2, 0.0) / ((images + 1) * (images + 3)) / images
        hidden = _HIDDEN * variance**0.5
        return min(1.0, max(0.0, hidden - self.skew)), min(1.0, max(0.0, hidden + self.skew))

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


def _away(size: float, pull: float) -> float:
    """How far a change lies off, in standard deviations, where rare images pull the other way."""
    if pull == 0:
        return size
    images = 1 / pull**2
    above = (size * np.sqrt(images) - 1) / (images + 1)
    root = np.expm1(np.log1p(above) / 3)
    counted = 3 * np.sqrt(images + 1) * (root + 1 / (9 * (images + 1)))
    return min(size, max(0.0, float(counted)))


def _far(deviations: float, pull: float) -> float:
    """The inverse of that."""
    if pull == 0:
        return deviations
    images = 1 / pull**2
    part = deviations / (3 * np.sqrt(images + 1)) - 1 / (9 * (images + 1))
    above = (images + 1) * np.expm1(3 * np.log1p(part)) + 1
    return max(deviations, float(above / np.sqrt(images)))


def _skew(away: Floats) -> float:
    """Of standardized resamples, without what so many of a normal distribution show."""
    skew = float((away**3).mean())
    return float(np.copysign(max(0.0, skew**2 - 6 / len(away)) ** 0.5, skew))


def _scores(resampled: Floats) -> Floats:
    """As normal deviates, by their rank; 0 where not defined.

    What is far for one change is so for another: resamples tell which move together, and nothing
    else. By their own distances, which few images bound, up to half as many studies more had a
    false star where changes are skewed.
    """
    scores = np.zeros(len(resampled))
    defined = np.isfinite(resampled)
    _, place, ties = np.unique(resampled[defined], return_inverse=True, return_counts=True)
    below = (np.cumsum(ties) - ties / 2) / max(len(place), 1)
    scores[defined] = ndtri(below)[place]
    return scores


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
    skew = _skew((resampled - resampled.mean()) / resampled.std(ddof=1)) if error else 0.0
    return PairedTest(value, error, freedom, _scores(difference.resampled), skew)

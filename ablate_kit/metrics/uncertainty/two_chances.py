"""A change by the chance of images and, beside it, of something drawn a few times: seeds, repeats.

Half of the interval is the root of two squares: of Student's interval over what is drawn, and of
the images' own interval (Howe 1974). Both are as wide as each chance alone makes them, with its own
degrees of freedom, and so the interval is never too narrow, in the tails neither. Satterthwaite's
single number of degrees of freedom (1946) is: where draws make most of the chance, its 5 % were 12
of two draws and 8 of three, and its 0.2 %, which one row of 24 needs, 5 and 2 %
(``benchmarks/simulated_draws.py``).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit  # quicker by far than scipy.stats

from ablate_kit.metrics.uncertainty.chance import LEVEL, PairedTest

_LEAST = -15.0  # log10 of the smallest p that is told apart


@dataclass(frozen=True)
class TwoChances:
    """A mean change."""

    images: PairedTest  # the test over images alone
    error: float  # standard error by what was drawn
    freedom: float  # degrees of freedom of that

    @property
    def p(self) -> float:
        """Two-sided, of no change: below the level of an interval exactly where that leaves out
        0."""
        if not self.error:
            return self.images.p
        if self._from_zero(0.0) <= 0:
            return 1.0
        if self._from_zero(_LEAST) > 0:
            return float(10**_LEAST)
        return float(10 ** brentq(self._from_zero, _LEAST, 0.0, xtol=1e-12))

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """The true changes of which p is not below ``level``."""
        drawn = float(stdtrit(self.freedom, 1 - level / 2)) * self.error
        low, high = self.images.interval(level)
        change = self.images.change
        below, above = float(np.hypot(drawn, change - low)), float(np.hypot(drawn, high - change))
        return change - below, change + above

    def ends(self) -> tuple[float, float] | tuple[None, None]:
        """The interval as it is told: none where nothing makes a difference."""
        return self.interval() if self.error or self.images.error else (None, None)

    def _from_zero(self, logarithm: float) -> float:
        """How far the interval of such a level is from 0; below where it holds it."""
        low, high = self.interval(10**logarithm)
        return low if self.images.change > 0 else -high

"""How strict each of several looks at growing data must be, for all of them to err as one would.

Group-sequential testing (Pocock 1977; Lan and DeMets 1983): a chance of error is spent over the
looks in proportion to the share of the images that has been seen, and each look's bound follows
from what was spent before, as changes at the looks are values of one Brownian motion. Spent evenly,
early looks are strict, where few images make standard errors rough, and the last one is little
stricter than a single test.

Several variants share the error evenly (Bonferroni). So with a probability of 95 % *all* intervals
of *all* looks hold what they are about, whoever stops when and why: a decision that is made of them
can be made at any look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from ablate_kit.metrics.uncertainty.bootstrap import Floats
from ablate_kit.metrics.uncertainty.chance import LEVEL

_NODES = 128  # of the integral over where a path may be


@dataclass(frozen=True)
class Looks:
    """The schedule of a race.

    Attributes:
        images: how many have been seen at each look; the last number is that of all images.
        variants: how many are decided about.
    """

    images: tuple[int, ...]
    variants: int

    def __str__(self) -> str:
        seen = ", ".join(f"{one:,}" for one in self.images)
        return f"looks at {seen} images, for {self.variants} variants"

    @cached_property
    def levels(self) -> dict[int, float]:
        """By the number of images: the two-sided p below which a look decides."""
        shares = [one / self.images[-1] for one in self.images]
        error = (1 - LEVEL) / max(self.variants, 1)
        return dict(zip(self.images, nominal_levels(shares, error), strict=True))


def nominal_levels(shares: Sequence[float], error: float) -> list[float]:
    """The two-sided p of each look that altogether err with probability ``error``.

    Args:
        shares: of the images that are seen by each look, ascending, the last one 1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    levels: list[float] = []
    place, mass = np.zeros(1), np.ones(1)  # of paths that no look has ended; at share 0
    before = spent = 0.0
    for share in shares:
        step = float(np.sqrt(share - before))
        due = error * share - spent
        highest = -float(ndtri(due / 4)) * np.sqrt(share)
        bound = float(brentq(_excess, 0.0, highest, args=(place, mass, step, due), xtol=1e-12))
        levels.append(2 * float(ndtr(-bound / np.sqrt(share))))
        spent += due
        there = nodes * bound
        density = np.exp(-(((there[:, None] - place) / step) ** 2) / 2) / np.sqrt(2 * np.pi)
        place, mass = there, (density @ mass) / step * weights * bound
        before = share
    return levels


def _excess(bound: float, place: Floats, mass: Floats, step: float, due: float) -> float:
    """By how much more than is due paths leave the bound at the next look."""
    beyond = ndtr((place - bound) / step) + ndtr((-place - bound) / step)
    return float(beyond @ mass) - due

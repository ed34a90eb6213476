"""How strict each of several looks at growing data must be, for all of them to err as one would.

Group-sequential testing (Pocock 1977; Lan and DeMets 1983): a chance of error is spent over the
looks as the images come in, and each look's bound follows from what was spent before, as changes at
the looks are values of one Brownian motion. How much is spent by when is the function of Lan and
DeMets that makes all looks about equally strict.

Several variants share the error (Bonferroni). Once one is decided, its share goes to the others, as
in Holm's procedure (group-sequential: Maurer and Bretz 2013): those that are left are compared with
the bounds of a race of fewer variants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from ablate_kit.metrics.uncertainty.bootstrap import Floats
from ablate_kit.metrics.uncertainty.chance import LEVEL
from ablate_kit.plural import counted

_NODES = 128  # of the integral over where a path may be


@dataclass(frozen=True)
class Looks:
    """The schedule of a race."""

    # How many have been seen at each look; the last number is that of all images.
    images: tuple[int, ...]
    variants: int  # how many are decided about
    # The chance of a verdict on the last look below which a variant is given up, even if all others
    # are decided by then.
    futility: float = 0.0

    def __str__(self) -> str:
        seen = ", ".join(f"{one:,}" for one in self.images)
        told = f"looks at {seen} images, for {counted(self.variants, 'variant')}"
        if self.futility:
            told += f", given up below a chance of {self.futility:.0%} to be decided"
        return told

    def level(self, images: int, left: int | None = None) -> float:
        """The two-sided p below which the look after so many images decides.

        Args:
            left: how many variants are not decided yet, given up or not; by default all.
        """
        return _levels(self.images, self.variants if left is None else left)[images]


@lru_cache(maxsize=256)
def _levels(images: tuple[int, ...], variants: int) -> dict[int, float]:
    shares = [one / images[-1] for one in images]
    error = (1 - LEVEL) / max(variants, 1)
    return dict(zip(images, nominal_levels(shares, error), strict=True))


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
        due = error * float(np.log(1 + (np.e - 1) * share)) - spent
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

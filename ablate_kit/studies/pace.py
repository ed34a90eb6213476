"""What rounds cost on this machine: as predicted at first, then as measured."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

FORWARD = 1.3  # seconds per second of forward passes as the trace has them, before any is measured
EACH = 0.002  # seconds for each image that a variant meets: storing, scoring
_TRUST = 0.07  # of these two beside one round
_FADES = 0.6  # what a round tells, against the next one: the load of a machine changes


@dataclass(frozen=True)
class Load:
    """What a round asks for."""

    forward: float  # seconds of its forward passes, each from where its variant restarts
    met: int  # how often a variant meets an image


class Pace:
    """Seconds of a load, learned from those that have run.

    A cut costs what its forward passes cost and something that every cut costs, however late in the
    pass it restarts. Both rates are fitted, to be off by the same share for short and long rounds.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Load, float]] = []
        self._rates = FORWARD, EACH

    def learn(self, load: Load, seconds: float) -> None:
        """Of a round that took so long."""
        if seconds <= 0:
            return
        self._rows.append((load, seconds))
        weights = [_FADES**age for age in reversed(range(len(self._rows)))]
        known = [
            (weight * one.forward / took, weight * one.met / took, weight)
            for weight, (one, took) in zip(weights, self._rows, strict=True)
        ]
        assumed = [(_TRUST / FORWARD, 0.0, _TRUST), (0.0, _TRUST / EACH, _TRUST)]
        table = np.array([*known, *assumed])
        (forward, each), _ = nnls(table[:, :2], table[:, 2])
        self._rates = float(forward), float(each)

    def seconds(self, load: Load) -> float:
        forward, each = self._rates
        return forward * load.forward + each * load.met

"""The six overlapping categories of the thesis notebook, by its own counting.

Kept so that its numbers can be reproduced; ``diagnose`` is what to believe. Its known blind spots
are part of it: a NaN is neither an update nor a bad gradient, the last *detected* change and not
the last step is what a change is told from, and a gradient that has gone counts on.
"""

import numpy as np
import torch
from torch import Tensor

from ablate_kit.gradients.counters import Flags, Floats
from ablate_kit.gradients.shape_group import ShapeGroup
from ablate_kit.gradients.thresholds import GradientThresholds

CATEGORIES = (
    "never_updated",
    "vanishing_grad",
    "low_grad",
    "no_update_despite_grad",
    "unchanged_from_init",
    "high_grad",
)
HEALTHY = "healthy"
# In the notebook's code, beside its thresholds.
MANY_STUCK, MANY_UPDATES, MANY_GRADIENTS, UNCHANGED, FEW_VANISHING = 5, 5, 10, 1e-6, 0.1


class LastDetected:
    """The weights at the last step whose change was above the limit, of one family."""

    def __init__(self, family: ShapeGroup, limit: float) -> None:
        self.family = family
        self.limit = limit
        self.weights = family.start.clone()

    def changes(self) -> Tensor:
        """(k,) largest |change| since the last detected one; above the limit it is detected."""
        now = self.family.weights()
        change = (now - self.weights).abs().reshape(len(now), -1).amax(1)
        detected = (change > self.limit).view(-1, *[1] * (now.ndim - 1))
        self.weights = torch.where(detected, now, self.weights)
        return change.float()

    def since_start(self) -> Tensor:
        change = (self.weights - self.family.start).abs()
        return change.reshape(len(change), -1).amax(1).float()


class Notebook:
    """Its counters, for T tensors."""

    def __init__(self, tensors: int, limits: GradientThresholds) -> None:
        self.limits = limits
        self.gradients, self.vanishing, self.low, self.high, self.updates, self.stuck = (
            np.zeros(tensors) for _ in range(6)
        )
        self.last_norm = np.full(tensors, np.nan)  # none yet

    def watch(self, family: ShapeGroup) -> LastDetected:
        return LastDetected(family, self.limits.change)

    def add(self, present: Flags, norms: Floats, changes: Floats) -> None:
        """One iteration: (T,) which have a gradient, its norms, largest changes."""
        limits = self.limits
        self.gradients += present
        vanishing = present & (norms < limits.vanishing)
        low = present & (norms >= limits.vanishing) & (norms < limits.low)
        self.vanishing += vanishing
        self.low += low
        self.high += present & (norms > limits.high)
        self.last_norm = np.where(present, norms, self.last_norm)
        updated = changes > limits.change
        self.updates += updated
        self.stuck += ~updated & (self.last_norm > 0)

    def categories(self, since_start: Floats) -> dict[str, Flags]:
        """(T,) membership of each category, and of ``healthy``."""
        seen = self.gradients > 0
        count = np.maximum(self.gradients, 1)
        unchanged = (since_start < UNCHANGED) & (self.gradients > MANY_GRADIENTS)
        return {
            "never_updated": self.updates == 0,
            "vanishing_grad": seen & (self.vanishing / count > self.limits.vanishing_share),
            "low_grad": seen & (self.low / count > self.limits.low_share),
            "no_update_despite_grad": self.stuck > MANY_STUCK,
            "unchanged_from_init": unchanged,
            "high_grad": seen & (self.high / count > self.limits.high_share),
            HEALTHY: (self.updates > MANY_UPDATES)
            & (self.vanishing < FEW_VANISHING * self.gradients)
            & ~unchanged,
        }

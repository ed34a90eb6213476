"""Categories of tensors that a training run can count beside the verdicts, by others' rules."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from ablate_kit.gradients.counters import Flags, Floats
from ablate_kit.gradients.shape_group import ShapeGroup
from ablate_kit.gradients.thresholds import GradientThresholds
from ablate_kit.registry import Registry


class Watched(Protocol):
    """A family's weights, as the rules look at them; everything stays on the device."""

    def changes(self) -> Tensor:
        """(k,) how much each tensor changed, asked for after every step."""

    def since_start(self) -> Tensor:
        """(k,) the same since the beginning."""


class Categories(Protocol):
    """Counters of T tensors."""

    def watch(self, family: ShapeGroup) -> Watched: ...

    def add(self, present: Flags, norms: Floats, changes: Floats) -> None:
        """One iteration: (T,) which have a gradient, its norms, and their ``changes``."""

    def categories(self, since_start: Floats) -> dict[str, Flags]:
        """(T,) who is a member of each category."""


CATEGORIES: Registry[Callable[[int, GradientThresholds], Categories]] = Registry(
    "gradient categories"
)
"""By whose they are, what makes counters for so many tensors."""

"""The coordinates of an ablation: which part of the model it is about, how much, which draw.

Reports group and draw variants by them, and nothing is read from a name. The words:

==============  ==================================================================================
module          name of the module that is cut
layer           the number of the layer that the module is in, or that is cut
head, kept_head the head that is removed, or the only one of its module that stays
heads           several of them, such as ``0-2,5``
target          what is cut where that is not one module: a pattern, several tensors
percent         share of heads or elements that is cut, in which ``order`` if not drawn at random;
                ``keep_percent``: that stays
noise_percent   of the deviation of a tensor
count, of       heads removed, of how many; ``step`` of how many steps, in which ``order``
dropped, added  parts cut at once, of which these were not in the cut before; ``elements``: how many
keep            heads of each module that stay
layers, mode    how many layers are cut, in which order; ``part``: of each layer
level, point    of the feature pyramid, of its sampling points; ``share``: where their weight goes
query, queries  object queries; ``how``
channel(s), to  output channels, and what they become
factor          that weights are multiplied by
member_1 ...    names of the ablations that were joined into one
protocol        the published one that it follows, where it does
repeat_of       what all draws of one random ablation have in common, and ``draw``: which it is
control_of      the ablation that a random control belongs to, and ``draw``: which it is
==============  ==================================================================================

A kind of ablation may add words of its own.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Factor = str | int | float
Factors = Mapping[str, Factor]

SIZE = "elements"
# Orders that a run's own results chose, and the factor that says how many parts are cut.
ORDERS = {"ranking": "dropped", "greedy": "count"}
BY_WEIGHTS = "smallest"  # the order of parts that weights chose
_DIGITS = 9  # of a number that a name holds


def of_module(name: str) -> dict[str, Factor]:
    """A module, and the number of its layer: the last number among the levels of its name."""
    numbers = [int(x) for x in name.split(".") if x.isdecimal() and len(x) <= _DIGITS]
    return {"module": name, **({"layer": numbers[-1]} if numbers else {})}


def of_draw(label: str, draw: int) -> dict[str, Factor]:
    """One of several draws of what ``label`` names."""
    return {"repeat_of": label, "draw": draw}


def of_members(names: Sequence[str]) -> dict[str, Factor]:
    """What a join of ablations of these names was made of."""
    return {f"member_{i}": name for i, name in enumerate(names, start=1)}


def members_in(factors: Factors) -> tuple[str, ...]:
    """The names that ``of_members`` was given; none of what is no join."""
    count = sum(name.startswith("member_") for name in factors)
    names = (f"member_{i}" for i in range(1, count + 1))
    return tuple(str(factors[name]) for name in names if name in factors)


def factors_from(values: Any) -> dict[str, Factor]:
    """Of JSON; raises ``ValueError`` for what are no factors."""
    if not isinstance(values, Mapping):
        raise ValueError(f"factors: {values!r:.40} is no object")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"factors: {name} is {value!r:.40}; expected a text or a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"factors: {name} is {value}")
    return dict(values)

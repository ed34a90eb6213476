"""Single units: a share of a tensor's elements, drawn at random."""

import math
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit, Random
from ablate_kit.ablations.kinds.drawn import check_percent, drawn, share
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Numbers
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Units(Kind):
    """A random share of each tensor's elements."""

    kind: Literal["units"] = "units"
    pattern: str
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        """One ablation per percentage and repeat; each cuts that share of every tensor.

        The number of units is rounded down. Repeats draw independently; within a repeat, a smaller
        percentage cuts a part of what a larger one cuts.

        Raises ``UserError`` for a percentage outside 0-100, or one that cuts nothing.
        """
        label, shapes = file_name(self.pattern), source.checkpoint.shapes
        sizes = {name: math.prod(shapes[name]) for name in source.floating(self.pattern)}
        for percent in self.percent:
            check_percent(percent)
            if not any(share(size, percent) for size in sizes.values()):
                largest = max(sizes, key=sizes.__getitem__)
                raise UserError(
                    f"{percent:g} % of {sizes[largest]} elements ({largest}) is less than one unit"
                )
        return [
            drawn(
                f"{label}-{percent:g}pct",
                draw,
                "units",
                (
                    Edit(name, Random(count, self.seed, draw))
                    for name, size in sizes.items()
                    if (count := share(size, percent))
                ),
                {"target": label, "percent": percent},
            )
            for percent in self.percent
            for draw in range(self.repeats)
        ]

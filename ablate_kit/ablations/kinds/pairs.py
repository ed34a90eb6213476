"""Every two of what other lines of a recipe cut one by one: do the parts need each other?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.kinds.combination import Combination, parts
from ablate_kit.ablations.kinds.kind import Patterns


@dataclass(frozen=True, kw_only=True)
class Pairs(Combination):
    """All pairs of ablations, each pair as one; ``members``: those whose names match a pattern."""

    kind: Literal["pairs"] = "pairs"
    members: Patterns | None = None  # by default all

    def count(self, made: Mapping[str, Ablation]) -> int:
        count = len(parts(made, self.members))
        return count * (count - 1) // 2

    def combine(self, made: Mapping[str, Ablation]) -> list[Ablation]:
        chosen = parts(made, self.members)
        return [replace(joined(*pair), kind="pairs") for pair in combinations(chosen, 2)]

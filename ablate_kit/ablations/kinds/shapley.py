"""Shapley values of what other lines of a recipe cut one by one: one number per part, that sum up.

A part's Shapley value (1953) is what cutting it changes on top of others that are cut already, on
average over all orders in which the parts can be cut. Here the orders are a sample: permutations in
pairs, each with its reverse (antithetic; Mitchell et al. 2022), which evens out early and late. The
values sum to the change of cutting all parts at once, whatever the sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, MultipleOf

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.kinds.combination import Combination, parts
from ablate_kit.ablations.kinds.kind import Natural, Patterns

ORDER = "permutation_"  # and its number: the factor that says how many of it are cut


def permutations(parts: int, count: int, seed: int) -> list[list[int]]:
    """So many orders of so many parts, each odd one the reverse of the one before."""
    generator = np.random.default_rng(seed)
    found: list[list[int]] = []
    for _ in range(count // 2):
        order = generator.permutation(parts).tolist()
        found += [order, order[::-1]]
    return found


@dataclass(frozen=True, kw_only=True)
class Shapley(Combination):
    """The first one, two, three ... of each permutation of the parts, cut at once.

    ``members``: parts are the ablations whose names match a pattern, by default all.
    """

    kind: Literal["shapley"] = "shapley"
    members: Patterns | None = None
    permutations: Annotated[int, Ge(4), MultipleOf(2)] = 16
    seed: Natural = 0

    def count(self, made: Mapping[str, Ablation]) -> int:
        return self.permutations * len(parts(made, self.members))

    def combine(self, made: Mapping[str, Ablation]) -> list[Ablation]:
        chosen = parts(made, self.members)
        found: dict[frozenset[int], Ablation] = {}
        for number, order in enumerate(permutations(len(chosen), self.permutations, self.seed)):
            for size in range(1, len(order) + 1):
                inside = frozenset(order[:size])
                if inside not in found:
                    found[inside] = self._cut([chosen[i] for i in sorted(inside)])
                one = found[inside]
                factors = {**one.factors, f"{ORDER}{number}": size}
                found[inside] = replace(one, factors=factors)
        return list(found.values())

    def _cut(self, members: list[Ablation]) -> Ablation:
        if len(members) == 1:
            return members[0]
        one = replace(joined(*members), kind="shapley")
        if len(members) == 2:
            return one
        digest = sha256("\n".join(member.name for member in members).encode()).hexdigest()
        return replace(one, name=f"shapley-{len(members)}-{digest[:8]}")

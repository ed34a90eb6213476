"""Shapley values of what other lines of a recipe cut one by one: one number per part, that sum up.

A part's Shapley value (1953) is what cutting it changes on top of others that are cut already, on
average over all orders in which the parts can be cut. Of few parts all subsets are cut, and the
values are exact. Of more the orders are a sample: permutations in pairs, each with its reverse
(antithetic; Mitchell et al. 2022), balanced as the rows of random Latin squares, so that every part
comes early as often as late. The values sum to the change of cutting all parts at once, whatever
the sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, MultipleOf
from scipy.optimize import linear_sum_assignment

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.kinds.combination import Combination, parts
from ablate_kit.ablations.kinds.kind import Natural, Patterns

ORDER = "permutation_"  # and its number: the factor that says how many of it are cut
SUBSET = "subset_of"  # so many parts, of which all subsets are cut


def permutations(parts: int, count: int, seed: int) -> list[list[int]]:
    """So many orders of so many parts, each odd one the reverse of the one before.

    Orders are drawn among those in which parts stand where they have stood least often. Of the
    first ``parts`` orders, where that is even, each part stands once in every place. Of 16 drawn
    each by itself up to 11 % of the intervals for 8 parts left out the truth, and of these up to
    5 % (``benchmarks/simulated_draws.py``); of 8 orders 17 %, so that fewer than 16 are refused.
    """
    generator = np.random.default_rng(seed)
    stood = np.zeros((parts, parts))  # how often in each place each part
    places = np.arange(parts)
    found: list[list[int]] = []
    for _ in range(count // 2):
        lot = generator.random((parts, parts)) / parts  # less than 1 of an order together
        _, order = linear_sum_assignment(stood + lot)
        stood[places, order] += 1
        stood[places[::-1], order] += 1
        found += [order.tolist(), order[::-1].tolist()]
    return found


@dataclass(frozen=True, kw_only=True)
class Shapley(Combination):
    """The first one, two, three ... of each permutation of the parts, cut at once; or all subsets
    of so few parts that these are no more.

    ``members``: parts are the ablations whose names match a pattern, by default all.
    """

    kind: Literal["shapley"] = "shapley"
    members: Patterns | None = None
    permutations: Annotated[int, Ge(16), MultipleOf(2)] = 16
    seed: Natural = 0

    def count(self, made: Mapping[str, Ablation]) -> int:
        chosen = len(parts(made, self.members))
        return 2**chosen - 1 if self._is_exact(chosen) else self.permutations * chosen

    def combine(self, made: Mapping[str, Ablation]) -> list[Ablation]:
        chosen = parts(made, self.members)
        factors: dict[frozenset[int], dict[str, int]] = {}
        if self._is_exact(len(chosen)):
            for size in range(1, len(chosen) + 1):
                for some in combinations(range(len(chosen)), size):
                    factors[frozenset(some)] = {SUBSET: len(chosen)}
        else:
            orders = permutations(len(chosen), self.permutations, self.seed)
            for number, order in enumerate(orders):
                for size in range(1, len(order) + 1):
                    inside = factors.setdefault(frozenset(order[:size]), {})
                    inside[f"{ORDER}{number}"] = size
        cuts = ((self._cut([chosen[i] for i in sorted(one)]), own) for one, own in factors.items())
        return [replace(one, factors={**one.factors, **own}) for one, own in cuts]

    def _is_exact(self, parts: int) -> bool:
        return 2**parts <= self.permutations * parts

    def _cut(self, members: list[Ablation]) -> Ablation:
        if len(members) == 1:
            return members[0]
        one = replace(joined(*members), kind="shapley")
        if len(members) == 2:
            return one
        digest = sha256("\n".join(member.name for member in members).encode()).hexdigest()
        return replace(one, name=f"shapley-{len(members)}-{digest[:8]}")

"""Heads removed one after the other, each time the one that is missed least.

A greedy search (backward elimination): with some heads removed, each of the others is tried on top,
and the one without which the metric stays highest goes next. What comes next is only known when a
round is evaluated, so that rounds are asked for one by one.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention, without_heads
from ablate_kit.ablations.factors import of_module
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.errors import UserError
from ablate_kit.metrics.headline import Key, metric

Values = Mapping[str, float | None]  # of a round's ablations, by digest


@dataclass(frozen=True)
class Removal:
    """One round's outcome.

    Attributes:
        ablation: all heads removed so far.
        module, head: which was removed last.
        value: the metric without them; None where it is not defined.
    """

    ablation: Ablation
    module: str
    head: int
    value: float | None


@dataclass(frozen=True, kw_only=True)
class HeadsGreedy(Kind):
    """Heads of all modules removed one after the other, each time the one that is missed least."""

    kind: Literal["heads-greedy"] = "heads-greedy"
    pattern: str
    num_heads: Count | None = None
    steps: Count | None = None  # how many heads are removed; by default all but one, if there are
    metric: Key = "AP"  # that decides

    def make(self, source: KindContext) -> list[Ablation]:
        self.rounds(source)  # a mistake is told before anything is evaluated
        return []  # nothing is known before a round is

    def size(self, source: KindContext) -> tuple[int, int]:
        """How many rounds there will be, and how many variants they try in all."""
        heads = sum(
            module.head_count() for module in source.attentions(self.pattern, self.num_heads)
        )
        rounds = self.steps or max(1, heads - 1)
        return rounds, sum(heads - number for number in range(rounds))

    def rounds(self, source: KindContext) -> Generator[list[Ablation], Values, list[Removal]]:
        """Yields the ablations of each round, is sent their values, and returns the steps.

        Of equal values the first head counts. Raises ``UserError`` for more steps than heads.
        """
        modules = source.attentions(self.pattern, self.num_heads)
        heads = [(module, head) for module in modules for head in range(module.head_count())]
        count = self.steps or max(1, len(heads) - 1)
        if count > len(heads):
            label = file_name(self.pattern)
            raise UserError(f"{count} steps for the {len(heads)} heads of {label}; give fewer")
        return self._rounds(modules, heads, count)

    def _rounds(
        self, modules: Sequence[Attention], heads: Sequence[tuple[Attention, int]], count: int
    ) -> Generator[list[Ablation], Values, list[Removal]]:
        label, direction = file_name(self.pattern), metric(self.metric).direction
        gone: list[int] = []
        steps: list[Removal] = []
        for number in range(1, count + 1):
            left = [i for i in range(len(heads)) if i not in gone]
            tried = [
                Ablation(
                    f"{label}-greedy-{number}of{len(heads)}-try{i}",
                    "greedy",
                    without_heads(modules, [heads[j] for j in (*gone, i)]),
                    factors={
                        "target": label,
                        "step": number,
                        "count": number,
                        "of": len(heads),
                        "order": "greedy",
                        **of_module(heads[i][0].prefix),
                        "head": heads[i][1],
                    },
                )
                for i in left
            ]
            values = yield tried
            found = [values[one.digest] for one in tried]
            ranks = [-inf if value is None else direction * value for value in found]
            best = ranks.index(max(ranks))
            module, head = heads[left[best]]
            gone.append(left[best])
            name = f"{label}-greedy-{number}of{len(heads)}-r0"
            ablation = Ablation(
                name, "heads-greedy", tried[best].edits, factors=tried[best].factors
            )
            steps.append(Removal(ablation, module.prefix, head, found[best]))
        return steps

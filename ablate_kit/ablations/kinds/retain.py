"""Attention with few heads left: one of each module, or fewer and fewer of all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention, without_heads
from ablate_kit.ablations.edits import Edit, Random
from ablate_kit.ablations.factors import Factors, of_module
from ablate_kit.ablations.kinds.drawn import drawn, share
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Naturals, Numbers
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.errors import UserError


@dataclass(frozen=True, kw_only=True)
class HeadsRetained(Kind):
    """All heads of a module but one, for each of its heads; or but ``keep`` drawn ones of each."""

    kind: Literal["heads-retained"] = "heads-retained"
    pattern: str
    num_heads: Count | None = None
    keep: Naturals | None = None  # how many of each module's heads stay; by default one, each
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        modules = source.attentions(self.pattern, self.num_heads)
        if self.keep is not None:
            return self._drawn(modules, self.keep)
        if self.repeats != 1 or self.seed != 42:
            raise UserError("repeats and seed go with keep; a module's one head is not drawn")
        return [
            Ablation(
                f"{module.prefix}-only{head}",
                "heads-retained",
                module.remove(other for other in range(module.head_count()) if other != head),
                factors=of_module(module.prefix) | {"kept_head": head},
            )
            for module in modules
            if module.head_count() > 1
            for head in range(module.head_count())
        ]

    def _drawn(self, modules: Sequence[Attention], keep: Sequence[int]) -> list[Ablation]:
        """One ablation per number and repeat: so many heads of each module stay, drawn at random.

        Within a repeat, the heads that stay of a smaller number are among those of a larger one.
        Raises ``UserError`` for a number that leaves no head to remove.
        """
        label = file_name(self.pattern)
        found = []
        for count in keep:
            for draw in range(self.repeats):
                edits: list[Edit] = []
                for module in modules:
                    total = module.head_count()
                    if not count < total:
                        raise UserError(
                            f"{module.prefix} has {total} heads; {count} of them cannot stay"
                        )
                    drawing = Random(count, self.seed, draw)
                    kept = drawing.indices(module.prefix, (total,)).tolist() if count else []
                    edits += module.remove(head for head in range(total) if head not in kept)
                factors: Factors = {"target": label, "keep": count}
                found.append(drawn(f"{label}-keep{count}", draw, "heads-retained", edits, factors))
        return found


@dataclass(frozen=True, kw_only=True)
class UnitsRetained(Kind):
    """A random share of each tensor's elements stays, and all others become zero."""

    kind: Literal["units-retained"] = "units-retained"
    pattern: str
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        """One ablation per percentage and repeat: that share of every tensor stays, rounded down.

        Within a repeat, what stays of a smaller percentage is part of what stays of a larger one.
        Raises ``UserError`` for a percentage that is not below 100.
        """
        label = file_name(self.pattern)
        shapes = source.checkpoint.shapes
        sizes = {name: math.prod(shapes[name]) for name in source.floating(self.pattern)}
        found = []
        for percent in self.percent:
            if not 0 <= percent < 100:
                raise UserError(f"percent is {percent:g}; expected 0 or more and less than 100")
            for draw in range(self.repeats):
                edits = [
                    Edit(name, Random(size - share(size, percent), self.seed, draw))
                    for name, size in sizes.items()
                ]
                group = f"{label}-keep{percent:g}pct"
                factors: Factors = {"target": label, "keep_percent": percent}
                found.append(drawn(group, draw, "units-retained", edits, factors))
        return found


@dataclass(frozen=True, kw_only=True)
class HeadsCumulative(Kind):
    """More and more heads over all modules, in a random order per repeat."""

    kind: Literal["heads-cumulative"] = "heads-cumulative"
    pattern: str
    num_heads: Count | None = None
    steps: Count = 8
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        """More and more heads of all modules together, in ``steps`` equal steps up to every head.

        Within a repeat each step removes what the one before did. Raises ``UserError`` for more
        steps than heads.
        """
        label, steps = file_name(self.pattern), self.steps
        modules = source.attentions(self.pattern, self.num_heads)
        heads = [(module, head) for module in modules for head in range(module.head_count())]
        if steps > len(heads):
            raise UserError(f"{steps} steps for the {len(heads)} heads of {label}; give fewer")
        found = []
        for repeat in range(self.repeats):
            for step in range(1, steps + 1):
                count = len(heads) * step // steps
                chosen = Random(count, self.seed, repeat).indices(label, (len(heads),))
                edits = without_heads(modules, [heads[i] for i in chosen])
                place: Factors = {"step": step, "count": count, "of": len(heads)}
                factors: Factors = {"target": label, **place, "order": "random"}
                group = f"{label}-{count}of{len(heads)}"
                found.append(drawn(group, repeat, "heads-cumulative", edits, factors))
        return found

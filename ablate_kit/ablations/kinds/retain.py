"""Attention with few heads left: one of each module, or fewer and fewer of all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation, Edit, Random
from ablate_kit.ablations.attention import Attention, without_heads
from ablate_kit.ablations.factors import Factors, of_module
from ablate_kit.ablations.kinds.drawn import drawn
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Naturals, Numbers
from ablate_kit.ablations.kinds.shares import share
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.errors import UserError


def retained(modules: Sequence[Attention]) -> list[Ablation]:
    """One ablation per head: all other heads of its module are removed."""
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


def retained_drawn(
    modules: Sequence[Attention],
    keep: Sequence[int],
    label: str,
    *,
    repeats: int = 1,
    seed: int = 42,
) -> list[Ablation]:
    """One ablation per number and repeat: so many heads of each module stay, drawn at random.

    Within a repeat, the heads that stay of a smaller number are among those of a larger one.
    Raises ``UserError`` for a number that leaves no head to remove.
    """
    found = []
    for count in keep:
        for draw in range(repeats):
            edits: list[Edit] = []
            for module in modules:
                total = module.head_count()
                if not count < total:
                    raise UserError(
                        f"{module.prefix} has {total} heads; {count} of them cannot stay"
                    )
                kept = (
                    Random(count, seed, draw).indices(module.prefix, (total,)).tolist()
                    if count
                    else []
                )
                edits += module.remove(head for head in range(total) if head not in kept)
            factors: Factors = {"target": label, "keep": count}
            found.append(drawn(f"{label}-keep{count}", draw, "heads-retained", edits, factors))
    return found


def units_retained(
    shapes: Mapping[str, tuple[int, ...]],
    percents: Sequence[float],
    label: str,
    *,
    repeats: int = 1,
    seed: int = 42,
) -> list[Ablation]:
    """One ablation per percentage and repeat: that share of every tensor stays, rounded down.

    Within a repeat, what stays of a smaller percentage is part of what stays of a larger one.
    Raises ``UserError`` for a percentage that is not below 100.
    """
    found = []
    for percent in percents:
        if not 0 <= percent < 100:
            raise UserError(f"percent is {percent:g}; expected 0 or more and less than 100")
        for draw in range(repeats):
            edits = []
            for name, shape in shapes.items():
                size = math.prod(shape)
                cut = size - share(size, percent)
                edits.append(Edit(name, Random(cut, seed, draw)))
            group = f"{label}-keep{percent:g}pct"
            factors: Factors = {"target": label, "keep_percent": percent}
            found.append(drawn(group, draw, "units-retained", edits, factors))
    return found


def cumulative(
    modules: Sequence[Attention], label: str, *, steps: int, repeats: int = 1, seed: int = 42
) -> list[Ablation]:
    """More and more heads of all modules together, in ``steps`` equal steps up to every head.

    The order is random, one per repeat; within a repeat each step removes what the one before did.
    Raises ``UserError`` for more steps than heads.
    """
    heads = [(module, head) for module in modules for head in range(module.head_count())]
    if steps > len(heads):
        raise UserError(f"{steps} steps for the {len(heads)} heads of {label}; give fewer")
    found = []
    for repeat in range(repeats):
        for step in range(1, steps + 1):
            count = len(heads) * step // steps
            chosen = Random(count, seed, repeat).indices(label, (len(heads),))
            found.append(
                drawn(
                    f"{label}-{count}of{len(heads)}",
                    repeat,
                    "heads-cumulative",
                    without_heads(modules, [heads[i] for i in chosen]),
                    {
                        "target": label,
                        "step": step,
                        "count": count,
                        "of": len(heads),
                        "order": "random",
                    },
                )
            )
    return found


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
        if self.keep is None:
            if self.repeats != 1 or self.seed != 42:
                raise UserError("repeats and seed go with keep; a module's one head is not drawn")
            return retained(modules)
        return retained_drawn(
            modules, self.keep, file_name(self.pattern), repeats=self.repeats, seed=self.seed
        )


@dataclass(frozen=True, kw_only=True)
class UnitsRetained(Kind):
    """A random share of each tensor's elements stays, and all others become zero."""

    kind: Literal["units-retained"] = "units-retained"
    pattern: str
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        tensors = source.checkpoint.tensors
        return units_retained(
            {name: tensors[name].shape for name in source.floating(self.pattern)},
            self.percent,
            file_name(self.pattern),
            repeats=self.repeats,
            seed=self.seed,
        )


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
        return cumulative(
            source.attentions(self.pattern, self.num_heads),
            file_name(self.pattern),
            steps=self.steps,
            repeats=self.repeats,
            seed=self.seed,
        )

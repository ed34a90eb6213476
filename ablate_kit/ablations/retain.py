"""Attention with few heads left: one of each module, or fewer and fewer of all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation, Edit, Random
from ablate_kit.ablations.attention import Attention
from ablate_kit.ablations.rule import Count, Rule, Source
from ablate_kit.ablations.select import file_name
from ablate_kit.errors import UserError


def retained(modules: Sequence[Attention]) -> list[Ablation]:
    """One ablation per head: all other heads of its module are removed."""
    return [
        Ablation(
            f"{module.prefix}-only{head}",
            "heads-retained",
            module.remove(other for other in range(module.head_count()) if other != head),
        )
        for module in modules
        if module.head_count() > 1
        for head in range(module.head_count())
    ]


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
            edits: list[Edit] = []
            for module in modules:
                own = [heads[i][1] for i in chosen if heads[i][0] is module]
                edits.extend(module.remove(own) if own else ())
            name = f"{label}-{count}of{len(heads)}-r{repeat}"
            found.append(Ablation(name, "heads-cumulative", tuple(edits)))
    return found


@dataclass(frozen=True, kw_only=True)
class HeadsRetained(Rule):
    """All heads of a module but one, for each of its heads."""

    kind: Literal["heads-retained"] = "heads-retained"
    pattern: str
    num_heads: Count | None = None

    def make(self, source: Source) -> list[Ablation]:
        return retained(source.attentions(self.pattern, self.num_heads))


@dataclass(frozen=True, kw_only=True)
class HeadsCumulative(Rule):
    """More and more heads over all modules, in a random order per repeat."""

    kind: Literal["heads-cumulative"] = "heads-cumulative"
    pattern: str
    num_heads: Count | None = None
    steps: Count = 8
    repeats: Count = 1
    seed: int = 42

    def make(self, source: Source) -> list[Ablation]:
        return cumulative(
            source.attentions(self.pattern, self.num_heads),
            file_name(self.pattern),
            steps=self.steps,
            repeats=self.repeats,
            seed=self.seed,
        )

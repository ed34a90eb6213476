"""Attention heads, removed exactly (see ``attention``)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import Attention
from ablate_kit.ablations.edits import Edit, Random
from ablate_kit.ablations.factors import Factors, of_module
from ablate_kit.ablations.kinds.drawn import check_percent, drawn, share
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Naturals, Numbers
from ablate_kit.ablations.name_patterns import file_name, spans
from ablate_kit.errors import UserError


def heads_each(modules: Sequence[Attention]) -> list[Ablation]:
    """One ablation per head of every module."""
    return [
        Ablation(
            f"{module.prefix}-head{head}",
            "heads",
            module.remove([head]),
            factors=of_module(module.prefix) | {"head": head},
        )
        for module in modules
        for head in range(module.head_count())
    ]


def heads_chosen(modules: Sequence[Attention], heads: Iterable[int], label: str) -> Ablation:
    """One ablation: the same heads of all modules."""
    chosen = sorted(set(heads))
    edits = tuple(edit for module in modules for edit in module.remove(chosen))
    factors: Factors = {"target": label, "heads": spans(chosen)}
    if len(modules) == len(chosen) == 1:
        factors = of_module(modules[0].prefix) | {"head": chosen[0]}
    return Ablation(f"{label}-head{spans(chosen)}", "heads", edits, factors=factors)


@dataclass(frozen=True, kw_only=True)
class HeadsEach(Kind):
    """Every head of the modules, one by one."""

    kind: Literal["heads"] = "heads"
    pattern: str
    num_heads: Count | None = None  # where the checkpoint's config does not tell

    def make(self, source: KindContext) -> list[Ablation]:
        return heads_each(source.attentions(self.pattern, self.num_heads))


@dataclass(frozen=True, kw_only=True)
class HeadsChosen(Kind):
    """The same heads of all modules at once."""

    kind: Literal["heads-chosen"] = "heads-chosen"
    pattern: str
    num_heads: Count | None = None
    heads: Naturals

    def make(self, source: KindContext) -> list[Ablation]:
        modules = source.attentions(self.pattern, self.num_heads)
        return [heads_chosen(modules, self.heads, file_name(self.pattern))]


@dataclass(frozen=True, kw_only=True)
class RandomHeads(Kind):
    """A random share of each module's heads."""

    kind: Literal["heads-random"] = "heads-random"
    pattern: str
    num_heads: Count | None = None
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        modules = source.attentions(self.pattern, self.num_heads)
        return self.of(modules, file_name(self.pattern))

    def of(self, modules: Sequence[Attention], label: str) -> list[Ablation]:
        """One ablation per percentage and repeat: that share of each module's heads.

        The number of heads is rounded down. Raises ``UserError`` where that leaves none.
        """
        found = []
        for percent in self.percent:
            check_percent(percent)
            for draw in range(self.repeats):
                edits: list[Edit] = []
                for module in modules:
                    total = module.head_count()
                    count = share(total, percent)
                    if count == 0:
                        raise UserError(
                            f"{percent:g} % of the {total} heads of {module.prefix} is less than "
                            "one"
                        )
                    heads = Random(count, self.seed, draw).indices(module.prefix, (total,))
                    edits.extend(module.remove(heads.tolist()))
                factors: Factors = {"target": label, "percent": percent}
                found.append(drawn(f"{label}-{percent:g}pct", draw, "heads", edits, factors))
        return found

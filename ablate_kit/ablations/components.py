"""Components: one or many whole tensors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation, Edit
from ablate_kit.ablations.rule import Patterns, Rule, Source
from ablate_kit.ablations.select import file_name


def component(tensors: Iterable[str], label: str) -> Ablation:
    """Every element of these tensors becomes zero."""
    return Ablation(label, "component", tuple(Edit(name) for name in tensors))


@dataclass(frozen=True, kw_only=True)
class Component(Rule):
    """Whole tensors, all at once."""

    kind: Literal["component"] = "component"
    patterns: Patterns
    name: str | None = None

    def make(self, source: Source) -> list[Ablation]:
        names = dict.fromkeys(
            name for pattern in self.patterns for name in source.floating(pattern)
        )
        return [component(names, self.name or file_name("+".join(self.patterns)))]


@dataclass(frozen=True, kw_only=True)
class Modules(Rule):
    """Each module that a pattern names, one by one."""

    kind: Literal["modules"] = "modules"
    patterns: Patterns

    def make(self, source: Source) -> list[Ablation]:
        found = source.modules(self.patterns)
        return [component(names, module) for module, names in found.items()]

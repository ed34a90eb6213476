"""Components: one or many whole tensors."""

from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.factors import of_module
from ablate_kit.ablations.kinds.kind import Kind, KindContext, Patterns, listed
from ablate_kit.ablations.kinds.zeros import component
from ablate_kit.ablations.name_patterns import file_name


@dataclass(frozen=True, kw_only=True)
class Component(Kind):
    """Whole tensors, all at once."""

    kind: Literal["component"] = "component"
    pattern: Patterns
    name: str | None = None

    def make(self, source: KindContext) -> list[Ablation]:
        names = dict.fromkeys(name for one in listed(self.pattern) for name in source.floating(one))
        label = self.name or file_name("+".join(listed(self.pattern)))
        return [component(names, label, shapes=source.checkpoint.shapes)]


@dataclass(frozen=True, kw_only=True)
class Modules(Kind):
    """Each module that a pattern names, one by one."""

    kind: Literal["modules"] = "modules"
    pattern: Patterns

    def make(self, source: KindContext) -> list[Ablation]:
        found = source.modules(self.pattern)
        shapes = source.checkpoint.shapes
        return [
            component(names, one, of_module(one), shapes=shapes) for one, names in found.items()
        ]

"""Deep Dissect's ablations as kinds of a recipe."""

from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Numbers
from ablate_kit.ablations.name_patterns import parse_spans
from ablate_kit.compat.deep_dissect.published_cuts import (
    component,
    heads,
    progressive,
    single,
)


@dataclass(frozen=True, kw_only=True)
class DissectUnits(Kind):
    kind: Literal["dissect-units"] = "dissect-units"
    tensor: str
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        return [
            one
            for share in self.percent
            for one in single(
                self.tensor, source.checkpoint.shapes, share, repeats=self.repeats, seed=self.seed
            )
        ]


@dataclass(frozen=True, kw_only=True)
class DissectHeads(Kind):
    kind: Literal["dissect-heads"] = "dissect-heads"
    tensor: str  # with {layer}
    layers: str  # 0-5
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        return [
            one
            for share in self.percent
            for one in heads(
                self.tensor,
                sorted(parse_spans(self.layers, "layers")),
                source.checkpoint.shapes,
                share,
                repeats=self.repeats,
                seed=self.seed,
            )
        ]


@dataclass(frozen=True, kw_only=True)
class DissectComponent(Kind):
    kind: Literal["dissect-component"] = "dissect-component"
    tensor: str

    def make(self, source: KindContext) -> list[Ablation]:
        return [component(self.tensor, source.checkpoint.shapes)]


@dataclass(frozen=True, kw_only=True)
class DissectProgressive(Kind):
    kind: Literal["dissect-progressive"] = "dissect-progressive"
    tensor: str  # with {layer}
    layers: str  # 0-5

    def make(self, source: KindContext) -> list[Ablation]:
        return progressive(
            self.tensor, sorted(parse_spans(self.layers, "layers")), source.checkpoint.shapes
        )

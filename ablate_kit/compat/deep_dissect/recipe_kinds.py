"""The ablations of the published Deep Dissect tool, element for element, under its file names.

To reproduce published numbers. Its "attention heads" are no heads: it zeroes stretches of 32
columns in single rows of ``in_proj_weight``, which removes none of the heads and disturbs all of
them (docs/coming-from-deep-dissect.md). To remove a head, use ``heads``.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.factors import of_draw
from ablate_kit.ablations.kinds.drawn import check_percent
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext, Natural, Numbers
from ablate_kit.ablations.name_patterns import parse_spans
from ablate_kit.compat.deep_dissect.regions import HEADS, WIDTH, Permuted, Stretches
from ablate_kit.errors import UserError, did_you_mean

Shapes = Mapping[str, tuple[int, ...]]

PROTOCOL = {"protocol": "deep-dissect"}


@dataclass(frozen=True, kw_only=True)
class DissectUnits(Kind):
    kind: Literal["dissect-units"] = "dissect-units"
    tensor: str
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        """A share of one tensor's elements, drawn anew in each repeat."""
        size = math.prod(_shape(self.tensor, source.checkpoint.shapes))
        found = []
        for percent in self.percent:
            units = _count(size, percent)
            for repeat in range(self.repeats):
                edit = Edit(self.tensor, Permuted(units, self.seed, repeat))
                name = f"model_{self.tensor}_single_wise_{percent:g}"
                found.append(_drawn("units", name, repeat, [edit], self.tensor, percent))
        return found


@dataclass(frozen=True, kw_only=True)
class DissectHeads(Kind):
    kind: Literal["dissect-heads"] = "dissect-heads"
    tensor: str  # with {layer}
    layers: str  # 0-5
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: KindContext) -> list[Ablation]:
        """Stretches of rows of one tensor in several layers, all in one file."""
        names = list(_of_layers(self.tensor, self.layers).values())
        shapes = {_shape(name, source.checkpoint.shapes) for name in names}
        if len(shapes) > 1:
            raise UserError(f'the layers of "{self.tensor}" differ in shape: {sorted(shapes)}')
        (shape,) = shapes
        if len(shape) != 2 or shape[1] < HEADS * WIDTH:
            raise UserError(
                f"{names[0]} of shape {shape} cannot be cut as Deep Dissect does: expected a "
                f"matrix of at least {HEADS * WIDTH} columns, {HEADS} heads of {WIDTH}"
            )
        without_layer = self.tensor.replace("{layer}.", "").replace(".{layer}", "")
        found = []
        for percent in self.percent:
            units = _count(HEADS * shape[0], percent)
            for repeat in range(self.repeats):
                edits = [
                    Edit(name, Stretches(units, self.seed, repeat * len(names) + place))
                    for place, name in enumerate(names)
                ]
                name = f"model_{without_layer}_attention_head_{percent:g}"
                found.append(_drawn("heads", name, repeat, edits, self.tensor, percent))
        return found


@dataclass(frozen=True, kw_only=True)
class DissectComponent(Kind):
    kind: Literal["dissect-component"] = "dissect-component"
    tensor: str

    def make(self, source: KindContext) -> list[Ablation]:
        """One whole tensor."""
        _shape(self.tensor, source.checkpoint.shapes)
        return [
            Ablation(
                f"model_{self.tensor}_component_wise",
                "deep-dissect-component",
                (Edit(self.tensor),),
                factors={"target": self.tensor, **PROTOCOL},
            )
        ]


@dataclass(frozen=True, kw_only=True)
class DissectProgressive(Kind):
    kind: Literal["dissect-progressive"] = "dissect-progressive"
    tensor: str  # with {layer}
    layers: str  # 0-5

    def make(self, source: KindContext) -> list[Ablation]:
        """One tensor of layer 0, of layers 0 and 1, and so on."""
        names = _of_layers(self.tensor, self.layers)
        for name in names.values():
            _shape(name, source.checkpoint.shapes)
        edits = tuple(map(Edit, names.values()))
        before, after = (part.strip(".") for part in self.tensor.split("{layer}"))
        told = {"target": self.tensor, "mode": "progressive"}
        return [
            Ablation(
                f"model_{before}_{layer}_{after}_component_layers",
                "deep-dissect-layers",
                edits[:count],
                factors={**told, "layers": count, **PROTOCOL},
            )
            for count, layer in enumerate(names, start=1)
        ]


def _drawn(
    what: str, group: str, draw: int, edits: Iterable[Edit], target: str, percent: float
) -> Ablation:
    factors = {"target": target, "percent": percent, **PROTOCOL, **of_draw(group, draw)}
    return Ablation(f"{group}_{draw}", f"deep-dissect-{what}", tuple(edits), factors=factors)


def _of_layers(pattern: str, layers: str) -> dict[int, str]:
    """The tensor of each of these layers."""
    if pattern.count("{layer}") != 1:
        raise UserError(f'"{pattern}" has no {{layer}}: write it for the number of the layer, once')
    chosen = sorted(parse_spans(layers, "layers"))
    return {layer: pattern.replace("{layer}", str(layer)) for layer in chosen}


def _shape(tensor: str, shapes: Shapes) -> tuple[int, ...]:
    if tensor not in shapes:
        raise UserError(f'no tensor "{tensor}" in the checkpoint{did_you_mean(tensor, shapes)}')
    return shapes[tensor]


def _count(size: int, percent: float) -> int:
    check_percent(percent)
    count = int(size * percent / 100)  # as its code rounds
    if not count:
        raise UserError(f"{percent:g} % of {size} is less than one")
    return count

"""The ablations of the published Deep Dissect tool, element for element, under its file names.

To reproduce published numbers. Its "attention heads" are no heads: it zeroes stretches of 32
columns in single rows of ``in_proj_weight``, which removes none of the heads and disturbs all of
them (docs/head-ablation.md). To remove a head, use ``heads``.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ablate_kit.ablations.ablation import Ablation, Edit, Random
from ablate_kit.ablations.rule import Count, Natural, Numbers, Rule, Source
from ablate_kit.ablations.select import parse_spans
from ablate_kit.errors import UserError, did_you_mean

Shapes = Mapping[str, tuple[int, ...]]

# Fixed in its code, whatever the model.
HEADS, WIDTH = 8, 32


@dataclass(frozen=True)
class Permuted(Random):
    """The first ``units`` elements of the ``draw``-th permutation (from 0) by a seeded torch."""

    by: ClassVar[str] = "torch.randperm"

    def indices(self, tensor: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.draw + 1):
            order = torch.randperm(math.prod(shape), generator=generator)
        return np.sort(order[: self.units].numpy())


@dataclass(frozen=True)
class Stretches(Random):
    """Stretches of 32 columns in ``units`` places, of the ``draw``-th sample of a seeded Python.

    A place is a number below 8 x rows: that modulo 8 says which stretch, that divided by 8 which
    row.
    """

    by: ClassVar[str] = "random.sample"

    def count(self, shape: tuple[int, ...]) -> int:
        return self.units * WIDTH

    def indices(self, tensor: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
        # An ablation may come from a file, for another tensor.
        if len(shape) != 2 or shape[1] < HEADS * WIDTH or self.units > HEADS * shape[0]:
            raise UserError(f"{tensor} of shape {shape} has no {self}")
        rows, columns = shape
        generator = random.Random(self.seed)
        for _ in range(self.draw + 1):
            places = np.array(generator.sample(range(HEADS * rows), self.units))
        first = places // HEADS * columns + places % HEADS * WIDTH
        return np.sort((first[:, None] + np.arange(WIDTH)).ravel())


REGIONS: Mapping[str, type[Random]] = {region.by: region for region in (Permuted, Stretches)}


def single(
    tensor: str, shapes: Shapes, percent: float, *, repeats: int = 1, seed: int = 42
) -> list[Ablation]:
    """Its unit ablation: a share of one tensor's elements, drawn anew in each repeat."""
    units = _count(math.prod(_shape(tensor, shapes)), percent, repeats)
    return [
        Ablation(
            f"model_{tensor}_single_wise_{percent:g}_{repeat}",
            "deep-dissect-units",
            (Edit(tensor, Permuted(units, seed, repeat)),),
        )
        for repeat in range(repeats)
    ]


def heads(
    pattern: str,
    layers: Sequence[int],
    shapes: Shapes,
    percent: float,
    *,
    repeats: int = 1,
    seed: int = 42,
) -> list[Ablation]:
    """Its head ablation: stretches of rows of one tensor in several layers, all in one file.

    Args:
        pattern: the tensor, with ``{layer}`` where the number of the layer stands.

    Raises:
        UserError: no such tensor, none of at least 256 columns, or layers of different shapes.
    """
    names = _names(pattern, layers)
    found = {_shape(name, shapes) for name in names}
    if len(found) > 1:
        raise UserError(f'the layers of "{pattern}" differ in shape: {sorted(found)}')
    (shape,) = found
    if len(shape) != 2 or shape[1] < HEADS * WIDTH:
        raise UserError(
            f"{names[0]} of shape {shape} cannot be cut as Deep Dissect does: expected a matrix of "
            f"at least {HEADS * WIDTH} columns, {HEADS} heads of {WIDTH}"
        )
    units = _count(HEADS * shape[0], percent, repeats)
    return [
        Ablation(
            f"model_{_without_layer(pattern)}_attention_head_{percent:g}_{repeat}",
            "deep-dissect-heads",
            tuple(
                Edit(name, Stretches(units, seed, repeat * len(names) + place))
                for place, name in enumerate(names)
            ),
        )
        for repeat in range(repeats)
    ]


def component(tensor: str, shapes: Shapes) -> Ablation:
    """Its component ablation: one whole tensor."""
    _shape(tensor, shapes)
    return Ablation(f"model_{tensor}_component_wise", "deep-dissect-component", (Edit(tensor),))


def progressive(pattern: str, layers: Sequence[int], shapes: Shapes) -> list[Ablation]:
    """Its progressive ablation: one tensor of layer 0, of layers 0 and 1, and so on."""
    names = _names(pattern, layers)
    for name in names:
        _shape(name, shapes)
    before, after = (part.strip(".") for part in pattern.split("{layer}"))
    return [
        Ablation(
            f"model_{before}_{layer}_{after}_component_layers",
            "deep-dissect-layers",
            tuple(Edit(name) for name in names[: place + 1]),
        )
        for place, layer in enumerate(layers)
    ]


def _names(pattern: str, layers: Sequence[int]) -> list[str]:
    if pattern.count("{layer}") != 1:
        raise UserError(f'"{pattern}" has no {{layer}}: write it for the number of the layer, once')
    if not layers:
        raise UserError(f'"{pattern}" stands for several layers; give them with --layers')
    return [pattern.replace("{layer}", str(layer)) for layer in layers]


def _without_layer(pattern: str) -> str:
    return pattern.replace("{layer}.", "").replace(".{layer}", "")


def _shape(tensor: str, shapes: Shapes) -> tuple[int, ...]:
    if tensor not in shapes:
        raise UserError(f'no tensor "{tensor}" in the checkpoint{did_you_mean(tensor, shapes)}')
    return shapes[tensor]


def _count(size: int, percent: float, repeats: int) -> int:
    if not 0 < percent <= 100:
        raise UserError(f"percent is {percent:g}; expected more than 0 and at most 100")
    if repeats < 1:
        raise UserError(f"repeats is {repeats}; expected at least 1")
    count = int(size * percent / 100)  # as its code rounds
    if not count:
        raise UserError(f"{percent:g} % of {size} is less than one")
    return count


@dataclass(frozen=True, kw_only=True)
class DissectUnits(Rule):
    kind: Literal["dissect-units"] = "dissect-units"
    tensor: str
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: Source) -> list[Ablation]:
        return [
            one
            for share in self.percent
            for one in single(
                self.tensor, _shapes(source), share, repeats=self.repeats, seed=self.seed
            )
        ]


@dataclass(frozen=True, kw_only=True)
class DissectHeads(Rule):
    kind: Literal["dissect-heads"] = "dissect-heads"
    tensor: str  # with {layer}
    layers: str  # 0-5
    percent: Numbers
    repeats: Count = 1
    seed: Natural = 42

    def make(self, source: Source) -> list[Ablation]:
        return [
            one
            for share in self.percent
            for one in heads(
                self.tensor,
                sorted(parse_spans(self.layers, "layers")),
                _shapes(source),
                share,
                repeats=self.repeats,
                seed=self.seed,
            )
        ]


@dataclass(frozen=True, kw_only=True)
class DissectComponent(Rule):
    kind: Literal["dissect-component"] = "dissect-component"
    tensor: str

    def make(self, source: Source) -> list[Ablation]:
        return [component(self.tensor, _shapes(source))]


@dataclass(frozen=True, kw_only=True)
class DissectProgressive(Rule):
    kind: Literal["dissect-progressive"] = "dissect-progressive"
    tensor: str  # with {layer}
    layers: str  # 0-5

    def make(self, source: Source) -> list[Ablation]:
        return progressive(self.tensor, sorted(parse_spans(self.layers, "layers")), _shapes(source))


def _shapes(source: Source) -> Shapes:
    return {name: info.shape for name, info in source.checkpoint.tensors.items()}

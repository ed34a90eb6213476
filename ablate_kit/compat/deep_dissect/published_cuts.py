"""The ablations of the published Deep Dissect tool, element for element, under its file names.

To reproduce published numbers. Its "attention heads" are no heads: it zeroes stretches of 32
columns in single rows of ``in_proj_weight``, which removes none of the heads and disturbs all of
them (docs/head-ablation.md). To remove a head, use ``heads``.
"""

import math
from collections.abc import Mapping, Sequence

from ablate_kit.ablations.ablation import Ablation, Edit
from ablate_kit.ablations.factors import of_draw
from ablate_kit.ablations.kinds.shares import check_percent
from ablate_kit.compat.deep_dissect.regions import HEADS, WIDTH, Permuted, Stretches
from ablate_kit.errors import UserError, did_you_mean

Shapes = Mapping[str, tuple[int, ...]]

PROTOCOL = {"protocol": "deep-dissect"}


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
            factors={
                "target": tensor,
                "percent": percent,
                **PROTOCOL,
                **of_draw(f"model_{tensor}_single_wise_{percent:g}", repeat),
            },
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
            factors={
                "target": pattern,
                "percent": percent,
                **PROTOCOL,
                **of_draw(f"model_{_without_layer(pattern)}_attention_head_{percent:g}", repeat),
            },
        )
        for repeat in range(repeats)
    ]


def component(tensor: str, shapes: Shapes) -> Ablation:
    """Its component ablation: one whole tensor."""
    _shape(tensor, shapes)
    return Ablation(
        f"model_{tensor}_component_wise",
        "deep-dissect-component",
        (Edit(tensor),),
        factors={"target": tensor, **PROTOCOL},
    )


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
            factors={
                "target": pattern,
                "mode": "progressive",
                "layers": place + 1,
                **PROTOCOL,
            },
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
    check_percent(percent)
    if repeats < 1:
        raise UserError(f"repeats is {repeats}; expected at least 1")
    count = int(size * percent / 100)  # as its code rounds
    if not count:
        raise UserError(f"{percent:g} % of {size} is less than one")
    return count

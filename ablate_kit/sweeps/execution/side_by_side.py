"""Variants that silence heads or channels, side by side in one pass over the images, repeated.

To zero a head's columns of an output projection is to zero what comes into them. So one pass can
hold many such variants: each in its own copy of the images, with its own heads at zero. Sums over a
larger batch may be split otherwise, so that the last bits differ from those of a variant alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.ablations.edits import Blocks
from ablate_kit.ablations.hooks import hook_projection_input
from ablate_kit.ablations.name_patterns import to_model_keys
from ablate_kit.sweeps.execution.live_variant import LiveNames
from ablate_kit.sweeps.execution.plan import Delta
from ablate_kit.sweeps.execution.trace import Trace
from ablate_kit.sweeps.variants.variant import Variant

Ranges = tuple[tuple[int, int], ...]


class CannotRunTogetherError(Exception):
    """The images of a pass cannot be told apart in what comes into a module."""


@dataclass(frozen=True)
class Silence:
    """Columns of a projection's weight at zero (axis 1), or rows with their biases (axis 0)."""

    weight: str  # in ``module.state_dict()``
    axis: int
    ranges: Ranges
    values: tuple[float, ...] = ()  # of the biases; none: zero


def silences(
    variant: Variant, module: nn.Module, state: Mapping[str, Tensor], live_names: LiveNames
) -> tuple[Silence, ...] | None:
    """What a variant silences; None where it does anything else."""
    if variant.ablation is None or variant.tensors or variant.ablation.live:
        return None
    weights: list[Silence] = []
    biases: dict[str, tuple[Ranges, tuple[float, ...]]] = {}
    for edit in variant.ablation.edits:
        names = to_model_keys(edit.tensor, state, live_names, whole=edit.alike)
        if len(names) != 1 or not isinstance(edit.region, Blocks) or not edit.constant:
            return None
        owner, _, leaf = names[0].rpartition(".")
        axis, ranges = edit.region.axis, edit.region.ranges
        if leaf == "bias" and axis == 0:
            count = sum(stop - start for start, stop in ranges)
            biases[owner] = ranges, edit.values or (edit.value,) * count
        elif leaf == "weight" and edit.values is None and edit.value == 0:
            weights.append(Silence(names[0], axis, ranges))
        else:
            return None
    found = []
    for one in weights:
        path = one.weight.rpartition(".")[0]
        owner_module = module.get_submodule(path)
        if one.axis == 1 and isinstance(owner_module, nn.Linear):
            found.append(one)
        elif one.axis == 0 and isinstance(owner_module, nn.Linear | nn.Conv2d):
            ranges, values = biases.pop(path, (one.ranges, ()))
            if ranges != one.ranges or (owner_module.bias is not None) != bool(values):
                return None
            found.append(Silence(one.weight, 0, ranges, values))
        else:
            return None
    return None if biases or not found else tuple(found)


def together(
    trace: Trace, deltas: Mapping[int, Delta], inputs: Mapping[str, Tensor], memory: float
) -> list[tuple[int, ...]]:
    """Those of some variants that may share a pass: they begin to differ at the same place, and
    what they replay, repeated, fits into ``memory``."""
    by_start: dict[float, list[int]] = {}
    for number, delta in deltas.items():
        by_start.setdefault(trace.restart(delta), []).append(number)
    shown = sum(tensor.nbytes for tensor in inputs.values())
    found = []
    for start, members in by_start.items():
        each = shown + sum(call.nbytes for call in trace.root.finished_before(start))
        most = int(min(memory // max(each, 1), len(members)))
        if most < 2:
            continue
        parts = -(-len(members) // most)
        bounds = [len(members) * i // parts for i in range(parts + 1)]
        groups = [tuple(members[a:b]) for a, b in pairwise(bounds)]
        found += [group for group in groups if len(group) > 1]
    return found


@contextmanager
def silenced(
    module: nn.Module, members: Sequence[Sequence[Silence]], images: int
) -> Iterator[None]:
    """Within, a pass over the images, repeated for each of the members, has each member's parts at
    zero in its own copy."""
    places = sorted({(one.weight, one.axis) for member in members for one in member})
    with ExitStack() as stack:
        for weight, axis in places:
            path = weight.rpartition(".")[0]
            owner = module.get_submodule(path)
            known = module.get_parameter(weight)
            keep, fill = _masks(members, weight, axis, known.shape[axis])
            keep, fill = (
                one.to(known).repeat_interleave(images, 0) for one in (keep, fill)
            )  # (members * images, width)
            if axis == 1:
                stack.enter_context(hook_projection_input(module, weight, _incoming(keep)))
            else:
                channel = 1 if isinstance(owner, nn.Conv2d) else -1
                stack.enter_context(owner.register_forward_hook(_outgoing(keep, fill, channel)))
        yield


def _masks(
    members: Sequence[Sequence[Silence]], weight: str, axis: int, width: int
) -> tuple[Tensor, Tensor]:
    """(members, width): 1 for what stays and 0 for the rest, and what is added to it."""
    keep, fill = torch.ones(len(members), width), torch.zeros(len(members), width)
    for number, member in enumerate(members):
        for one in member:
            if (one.weight, one.axis) != (weight, axis):
                continue
            where = [i for start, stop in one.ranges for i in range(start, stop)]
            keep[number, where] = 0.0
            if one.values:
                fill[number, where] = torch.tensor(one.values)
    return keep, fill


def _incoming(keep: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x * _like(keep, x, -1)


def _outgoing(keep: Tensor, fill: Tensor, channel: int) -> Callable[[Any, Any, Tensor], Tensor]:
    return lambda _, __, y: y * _like(keep, y, channel) + _like(fill, y, channel)


def _like(mask: Tensor, x: Tensor, channel: int) -> Tensor:
    """(images, channels), to be broadcast over the other axes of ``x``."""
    if x.dim() < 2 or len(x) != len(mask) or x.shape[channel] != mask.shape[1]:
        raise CannotRunTogetherError(
            f"cannot tell the images apart in a tensor of shape {tuple(x.shape)}"
        )
    shape = [1] * x.dim()
    shape[0], shape[channel] = mask.shape
    return mask.view(shape)

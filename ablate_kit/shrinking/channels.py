"""Channels of convolutions, taken out with all that is coupled to them.

What a channel is coupled to is not read off names: it is followed through the network. Channels
that the ablation silences are marked with NaN where they come out, and the marks say where they
arrive: through activations, poolings, residual sums and concatenations, to the convolutions and
linear layers whose columns they meet, past the norms and depthwise convolutions that treat each
channel alone. A second pass looks that all that arrives there is zero under the ablation.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.inference.detect import inference
from ablate_kit.shrinking.equality import images_of
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.structures import RemovedChannels

_PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")


@dataclass
class _Met:
    """Channels of each module, by its name."""

    inputs: dict[str, set[int]] = field(default_factory=dict)  # columns that are met
    through: dict[str, set[int]] = field(default_factory=dict)  # treated each alone
    silent: dict[str, set[int]] = field(default_factory=dict)  # columns where zero arrives


def take_channels(reduction: Reduction, ablation: Ablation, adapter: Adapter) -> None:
    """Takes out the channels that the ablation silences where they come out.

    Raises ``UserError`` where one of them cannot go: another addend of a sum is not silent, a norm
    over all channels mixes it with others, or a norm makes something of its zero.
    """
    # The checkpoint's name of each tensor of the live model.
    files = {there: name for name, names in adapter.live_names().items() for there in names}
    silenced = dict(_silenced(adapter.module, files, reduction))
    if not silenced:
        return
    inputs = adapter.prepare(images_of(None)[0]).inputs
    with inference(adapter.module), applied(adapter.module, ablation, adapter.live_names()):
        sources = _sources(adapter, inputs, silenced)
        met = _follow(adapter, inputs, silenced)
        _look(adapter, inputs, met)
    for name, channels in met.inputs.items():
        lively = channels - met.silent.get(name, set())
        if lively:
            raise UserError(
                f"channels cannot be taken out of {', '.join(silenced)}: what comes into {name} "
                f"there is not zero (channel {min(lively)}): another addend of a sum, or a norm "
                "after it, would have to be zeroed, too"
            )
    found = Reduction(reduction.tensors, reduction.zeroed)  # all of it, or none
    for name, channels in {**silenced, **met.through}.items():
        _take(found, adapter.module, files, name, channels)
    for norm, source in sources.items():
        if _depthwise(adapter.module.get_submodule(source)):
            lacking = silenced[norm] - met.through.get(source, set())
            if lacking:
                raise UserError(
                    f"channel {min(lacking)} cannot be taken out of {norm}: {source} before it "
                    "treats each channel alone, and what comes into that one is not zeroed"
                )
        else:
            _take(found, adapter.module, files, source, silenced[norm])
    for name, channels in met.inputs.items():
        found.take(_file(files, f"{name}.weight"), 1, channels)
    for name, channels in silenced.items():
        shown = _file(files, f"{sources.get(name, name)}.weight").removesuffix(".weight")
        count = _count(adapter.module.get_submodule(name))
        found.structures.append(RemovedChannels(shown, tuple(sorted(channels)), count))
    reduction.absorb(found)


def _silenced(
    module: nn.Module, files: Mapping[str, str], reduction: Reduction
) -> Iterator[tuple[str, set[int]]]:
    """Convolutions, and norms that treat each channel alone, with the channels that come out of
    them as zero because the ablation says so."""
    norms = {name for name, one in module.named_modules() if _is_norm(one)}
    for name, one in module.named_modules():
        if not (isinstance(one, nn.Conv2d) or name in norms):
            continue
        weight = files.get(f"{name}.weight")
        if weight is None or weight in reduction.dropped or weight in reduction.gone:
            continue
        bias = files.get(f"{name}.bias")
        found = reduction.zeroed.outputs(weight, bias)
        if isinstance(one, nn.Conv2d) and one.groups not in (1, one.out_channels):
            continue
        if len(found) == _count(one):
            raise UserError(
                f"{name} would have no channel left of {len(found)}, and the network has no way "
                "past it"
            )
        if found:
            yield name, found


def _sources(
    adapter: Adapter, inputs: Mapping[str, Tensor], silenced: dict[str, set[int]]
) -> dict[str, str]:
    """For each norm that is silenced, the convolution whose output it is given; a convolution that
    is silenced itself and goes through such a norm is left to that."""
    produced: dict[int, str] = {}
    kept: list[Any] = []  # or another output might get the place of one
    found: dict[str, str] = {}

    def after(name: str, _: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            produced[id(output)] = name
            kept.append(output)

    def before(name: str, _: nn.Module, args: tuple[Any, ...]) -> None:
        if args and id(args[0]) in produced:
            found[name] = produced[id(args[0])]

    with ExitStack() as stack:
        for name, one in adapter.module.named_modules():
            if isinstance(one, nn.Conv2d):
                stack.enter_context(one.register_forward_hook(partial(after, name)))
            elif _is_norm(one):
                stack.enter_context(one.register_forward_pre_hook(partial(before, name)))
        adapter.forward(inputs)
    sources = {norm: source for norm, source in found.items() if norm in silenced}
    for norm, source in sources.items():
        more = silenced.pop(source, set()) - silenced[norm]
        if more:
            raise UserError(
                f"channel {min(more)} of {source} is zeroed, and {norm} makes something of it: "
                "zero its weight and bias there, too"
            )
    return sources


def _follow(
    adapter: Adapter, inputs: Mapping[str, Tensor], silenced: Mapping[str, set[int]]
) -> _Met:
    """Where channels arrive that are marked as they come out."""
    met = _Met()

    def mark(name: str, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        marked = output.clone()
        marked[:, sorted(silenced[name])] = torch.nan
        return marked

    def watch(name: str, module: nn.Module, args: tuple[Any, ...]) -> Any:
        if not args or not isinstance(args[0], Tensor):
            return None
        x = args[0]
        axis = 1 if isinstance(module, nn.Conv2d) or _is_norm(module) else x.ndim - 1
        channels = _chosen(_by_channel(x.isnan(), axis).any(1))
        if not channels:
            return None
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            raise UserError(
                f"channels cannot be taken out of {', '.join(silenced)}: {name} normalizes "
                "over all channels, so that the others would come out otherwise"
            )
        alone = _is_norm(module) or _depthwise(module)
        kind = met.through if alone else met.inputs
        kind.setdefault(name, set()).update(channels)
        return None if alone else (torch.nan_to_num(x, nan=0.0), *args[1:])

    watched = nn.Conv2d | nn.Linear | nn.LayerNorm | nn.GroupNorm
    with ExitStack() as stack:
        for name, one in adapter.module.named_modules():
            if name in silenced:
                stack.enter_context(one.register_forward_hook(partial(mark, name)))
            elif isinstance(one, watched) or _is_norm(one):
                stack.enter_context(one.register_forward_pre_hook(partial(watch, name)))
        _run(adapter, inputs, silenced)
    for name, channels in met.through.items():
        one = adapter.module.get_submodule(name)
        if isinstance(one, nn.Conv2d) and one.groups != one.in_channels:
            raise UserError(
                f"{name} has {one.groups} groups of channels, of which channel {min(channels)} "
                "cannot go alone"
            )
    return met


def _run(adapter: Adapter, inputs: Mapping[str, Tensor], silenced: Mapping[str, set[int]]) -> None:
    outputs = adapter.forward(inputs)
    found = [one for one in outputs.values() if isinstance(one, Tensor)]
    if any(bool(one.isnan().any()) for one in found):
        raise UserError(
            f"channels of {', '.join(silenced)} go on to where they are mixed by something that "
            "has no weights; what they are coupled to cannot be told"
        )


def _look(adapter: Adapter, inputs: Mapping[str, Tensor], met: _Met) -> None:
    """Notes at which of the columns that are met zero arrives."""

    def watch(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0]
        axis = 1 if isinstance(module, nn.Conv2d) else x.ndim - 1
        zero = _chosen(_by_channel(x == 0, axis).all(1))
        met.silent[name] = met.silent.get(name, zero) & zero

    with ExitStack() as stack:
        for name in met.inputs:
            one = adapter.module.get_submodule(name)
            stack.enter_context(one.register_forward_pre_hook(partial(watch, name)))
        adapter.forward(inputs)


def _count(module: nn.Module) -> int:
    """Of the channels that come out."""
    return len(module.state_dict()["weight"])


def _by_channel(x: Tensor, axis: int) -> Tensor:
    """(channels, the rest)"""
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def _chosen(marks: Tensor) -> set[int]:
    return set(torch.nonzero(marks).flatten().tolist())


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups > 1


def _is_norm(module: nn.Module) -> bool:
    """A norm whose statistics are fixed: batch norm, or the library's frozen one."""
    return isinstance(module, nn.BatchNorm2d) or "FrozenBatchNorm" in type(module).__name__


def _take(
    reduction: Reduction, module: nn.Module, files: Mapping[str, str], name: str, channels: set[int]
) -> None:
    """Channels that come out of a convolution, or go through a norm."""
    state = module.get_submodule(name).state_dict()
    for tensor in _PER_CHANNEL:
        if tensor in state:
            reduction.take(_file(files, f"{name}.{tensor}"), 0, channels)


def _file(files: Mapping[str, str], live: str) -> str:
    if live not in files:
        raise UserError(
            f"{live} is not a tensor of the checkpoint as it is, so that no channel can be taken "
            "out of it"
        )
    return files[live]

"""What becomes of a module's output when its last layer gives nothing: tried, not guessed by name.

A module whose output is then its input is a residual branch around which the input passes: that
cut removes it exactly. One whose output is then the same everywhere tells nothing of the image any
more; in place of nothing its last layer can give its mean.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils import _pytree as pytree

from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.inference.detect import inference, placed
from ablate_kit.sweeps.execution.trace import Call, Trace, tensors_in

Gives = Literal["removed", "constant"]

_ALL: frozenset[Gives] = frozenset(("removed", "constant"))
_LAST = 2  # layers that are tried of a block: a shortcut may be computed after the branch


@dataclass(frozen=True)
class Silenced:
    """A module without its last layer."""

    layer: str  # the name of that layer, in the running model
    gives: Gives  # its input ("removed"), or the same everywhere ("constant")


def probe(
    adapter: Adapter, prepared: Prepared, trace: Trace, modules: Collection[str]
) -> dict[str, Silenced]:
    """Of these modules of the running model, those that can be silenced by one layer."""
    calls = {call.id.module: call for call in trace.root.all() if call.id.number == 0}
    wanted = {
        name: _layers(adapter.module, calls[name])[: _LAST if _numbered(name) else 1]
        for name in modules
        if name in calls
    }
    gives: dict[str, dict[str, frozenset[Gives]]] = {name: {} for name in wanted}
    busy = False

    def before(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal busy
        if busy:
            return
        busy = True
        try:
            for layer in wanted[name]:
                known = gives[name].get(layer, _ALL)
                if known:
                    found = _gives(adapter.module, module, layer, args, kwargs)
                    gives[name][layer] = known & found
        finally:
            busy = False

    inputs = placed(adapter, prepared).inputs
    with ExitStack() as stack:
        stack.enter_context(inference(adapter.module))
        for name, layers in wanted.items():
            if layers:
                module = adapter.module.get_submodule(name)
                stack.enter_context(
                    module.register_forward_pre_hook(partial(before, name), with_kwargs=True)
                )
        adapter.forward(inputs)
    found = {name: _silenced(layers) for name, layers in gives.items()}
    return {name: one for name, one in found.items() if one}


def _silenced(layers: Mapping[str, frozenset[Gives]]) -> Silenced | None:
    """By what each layer's absence gives in all calls. What is then both its input and the same
    everywhere had no input but such: nothing tells that it hands on what comes in."""
    for gives in ({"removed"}, {"constant"}, _ALL):
        for layer, found in layers.items():
            if found == gives:
                return Silenced(layer, "removed" if gives == {"removed"} else "constant")
    return None


def _layers(root: nn.Module, call: Call) -> list[str]:
    """The last layers with weights that run within a call, the very last first."""
    own = [one for one in call.all() if _weight(root.get_submodule(one.id.module)) is not None]
    own.sort(key=lambda one: one.start, reverse=True)
    return list(dict.fromkeys(one.id.module for one in own))


def _numbered(name: str) -> bool:
    return name.rpartition(".")[2].isdecimal()


def _weight(module: nn.Module, name: str = "weight") -> torch.Tensor | None:
    """A parameter, or as in frozen batch norm a buffer."""
    found: torch.Tensor | None = module._parameters.get(name)
    found = module._buffers.get(name) if found is None else found
    return found if found is not None and found.is_floating_point() else None


def _gives(
    root: nn.Module, module: nn.Module, layer: str, args: Any, kwargs: Mapping[str, Any]
) -> frozenset[Gives]:
    copied = pytree.tree_map(
        lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, (args, dict(kwargs))
    )
    with _zeroed(root.get_submodule(layer)):
        try:
            outputs = tensors_in(module.forward(*copied[0], **copied[1]))
        except Exception:  # whatever a model's own code may raise for what it never saw
            return frozenset()
    floating = [one for one in outputs if one.is_floating_point()]
    if len(floating) != 1:
        return frozenset()
    (out,) = floating
    found: set[Gives] = set()
    if any(one.shape == out.shape and torch.equal(one, out) for one in tensors_in((args, kwargs))):
        found.add("removed")
    if _same_everywhere(out):
        found.add("constant")
    return frozenset(found)


def _same_everywhere(out: torch.Tensor) -> bool:
    """Whether all places of a map, or all tokens, have the same; of a single one, all channels."""
    if out.dim() not in (3, 4):
        return False
    first = out[:, :, :1, :1] if out.dim() == 4 else out[:, :1]
    if first.shape == out.shape:
        first = out.flatten(1)[:, :1].reshape(-1, *[1] * (out.dim() - 1))
    return torch.equal(out, first.expand_as(out))


@contextmanager
def _zeroed(layer: nn.Module) -> Iterator[None]:
    both = (_weight(layer), _weight(layer, "bias"))
    parameters = [one for one in both if one is not None]
    before = [one.clone() for one in parameters]
    try:
        for one in parameters:
            one.zero_()
        yield
    finally:
        for one, value in zip(parameters, before, strict=True):
            one.copy_(value)

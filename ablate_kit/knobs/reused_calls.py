"""Calls of modules that are made once, though several networks make them.

A detector that is left after its second decoder layer computes what the whole one computes up to
there. So the whole one runs, each call of its modules is kept, and another network that calls the
same module on the same values is given what is there. That holds for every depth at once, whatever
the models do between their modules; and what no other network has computed is computed.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from detector.tensor_bytes import tensor_digest


@dataclass(frozen=True)
class _Value:
    """What an argument or an output was, and whether it still is that."""

    leaf: Any
    version: int

    @staticmethod
    def of(leaf: Any) -> "_Value":
        return _Value(leaf, leaf._version if isinstance(leaf, Tensor) else 0)

    @property
    def unchanged(self) -> bool:
        return not isinstance(self.leaf, Tensor) or self.leaf._version == self.version

    def equals(self, other: Any) -> bool:
        if self.leaf is other:
            return True
        if isinstance(self.leaf, Tensor) and isinstance(other, Tensor):
            one = self.leaf
            return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
        plain = (bool, int, float, str, torch.Size, torch.dtype, torch.device)
        return type(self.leaf) is type(other) and isinstance(other, plain) and self.leaf == other


@dataclass(frozen=True)
class _Call:
    arguments: tuple[_Value, ...]
    form: TreeSpec
    outputs: tuple[_Value, ...]  # the result, and what lists that were given hold after the call
    outputs_form: TreeSpec

    def repeated(self, lists: list[list[Any]]) -> Any:
        """The result, in a container of its own, as whoever was given an earlier one may have
        changed it; what the call does to the lists that it is given is done to these."""
        result, after = tree_unflatten([one.leaf for one in self.outputs], self.outputs_form)
        for given, content in zip(lists, after, strict=True):
            given[:] = content
        return result

    def answers(self, leaves: list[Any], form: TreeSpec) -> bool:
        return (
            self.form == form
            and all(one.unchanged for one in (*self.arguments, *self.outputs))
            and all(one.equals(leaf) for one, leaf in zip(self.arguments, leaves, strict=True))
        )


class ReusedCalls:
    """Of networks that share their weights."""

    def __init__(self) -> None:
        self._calls: dict[Any, list[_Call]] = {}
        self._paused = False
        self.made = self.spared = 0

    def forget(self) -> None:
        """Before other images."""
        for known in self._calls.values():
            known.clear()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Every call is made, and none is kept."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    @contextmanager
    def within(self, modules: Iterable[nn.Module]) -> Iterator[None]:
        """Calls of these modules are kept, and those that are there already are not made.

        Two modules are the same where their class and their weights are, in memory.
        """
        replaced = []
        try:
            for module in modules:
                own = _own(module)
                if own and "forward" not in vars(module):
                    module.forward = self._kept((type(module), own), module.forward)
                    replaced.append(module)
            yield
        finally:
            for module in replaced:
                del module.forward

    def _kept(self, key: Any, forward: Callable[..., Any]) -> Callable[..., Any]:
        known = self._calls.setdefault(key, [])

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._paused:
                return forward(*args, **kwargs)
            leaves, form = tree_flatten((args, kwargs))
            lists = [one for one in (*args, *kwargs.values()) if isinstance(one, list)]
            for one in known:
                if one.answers(leaves, form):
                    self.spared += 1
                    return one.repeated(lists)
            arguments = tuple(map(_Value.of, leaves))
            result = forward(*args, **kwargs)
            self.made += 1
            found, outputs_form = tree_flatten((result, lists))
            known.append(_Call(arguments, form, tuple(map(_Value.of, found)), outputs_form))
            return result

        return call


def _own(module: nn.Module) -> tuple[Any, ...]:
    """What a module computes with: its weights, by where they are, and what it computed ahead from
    its configuration, by its values."""
    weights = module.state_dict(keep_vars=True).values()
    saved = {id(one) for one in weights}
    places = {(one.data_ptr(), tuple(one.shape), one.stride()) for one in weights}
    ahead = [one for one in module.buffers() if id(one) not in saved]
    return (*sorted(places), *map(tensor_digest, ahead))

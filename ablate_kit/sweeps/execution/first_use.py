"""When each tensor of a model is first used in a pass, and what goes into an input."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ablate_kit.sweeps.execution.identities import Identities, Key, address

Tensors = Iterable[torch.Tensor]

# What can be asked of a tensor without looking at its values.
_ABOUT = {"size", "dim", "stride", "numel", "nelement", "element_size", "is_contiguous", "__len__"}
_ABOUT |= {"is_floating_point", "is_complex", "get_device", "storage_offset", "ndimension"}


class FirstUseTracer(TorchFunctionMode):
    """Ticks for every operation, and notes which of the model's tensors it is the first to take.

    Module hooks alone would not see ``query_embedding.weight`` used directly.
    """

    def __init__(self, identities: Identities) -> None:
        super().__init__()
        self.tick = 0
        self.seen: dict[Key, float] = {}
        self.called: dict[Key, float] = {}
        self._owned = identities.owned
        self._pending = dict(identities.by_storage)
        self._own = frozenset(identities.by_storage)
        self._latest: dict[int, float] = {}  # by address: when anything of the model last went in

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.tick += 1
        result = func(*args, **(kwargs or {}))
        if not _only_asks(func, result):
            given = [address(tensor) for tensor in _arguments((args, kwargs))]
            for place in given:
                key = self._pending.pop(place, None)
                if key is not None:
                    self.seen[key] = self.tick
            latest = max(map(self._of, given), default=0)
            written = given[:1] if result is None else map(address, _arguments(result))
            self._latest |= dict.fromkeys(written, latest)
        return result

    def _of(self, place: int) -> float:
        return self.tick if place in self._own else self._latest.get(place, 0)

    def depends(self, tensors: Tensors) -> float:
        """The last tick at which anything of the model went into these tensors, as far as it was
        seen."""
        return max((self._of(address(tensor)) for tensor in tensors), default=0)

    def starts(self, module: str) -> int:
        self.tick += 1
        for key in self._owned.get(module, ()):
            self.called.setdefault(key, self.tick)
        return self.tick

    def ends(self, module: str, given: Tensors, outputs: Tensors) -> int:
        self.tick += 1
        # What a hook does to the output comes after the call.
        self.seen.setdefault(("output", module), after := self.tick + 0.5)
        new = set(map(address, outputs)) - set(map(address, given))
        self._latest |= dict.fromkeys(new, after)
        return self.tick

    def first_use(self) -> dict[Key, float]:
        """A tensor that no operation was seen to take may have gone to one that cannot be seen:
        it counts as used from the first call of its module."""
        return self.called | self.seen


def _only_asks(func: Callable[..., Any], result: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name in _ABOUT or (name == "__get__" and not isinstance(result, torch.Tensor))


def _arguments(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided:
            yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _arguments(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _arguments(part)

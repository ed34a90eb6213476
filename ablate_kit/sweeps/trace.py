"""What happens in a forward pass, and when: module calls, and the first use of every tensor.

Time is counted in ticks: one per operation, per start and per end of a module call.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

Path = tuple[int, ...]
Tensors = Iterable[torch.Tensor]
Owned = Mapping[nn.Module, list[Hashable]]

NEVER = math.inf

# A recorded value may consist of these; anything else might change or hold what we cannot see.
PLAIN = (int, float, bool, str, bytes, complex, type(None), torch.Size, torch.dtype, torch.device)

# What can be asked of a tensor without looking at its values.
_ABOUT = {"size", "dim", "stride", "numel", "nelement", "element_size", "is_contiguous", "__len__"}
_ABOUT |= {"is_floating_point", "is_complex", "get_device", "storage_offset", "ndimension"}


@dataclass(eq=False)
class Recorded:
    """The value that a module call returned, kept to be returned again."""

    leaves: list[Any]
    structure: Any
    versions: list[int]  # of the leaves, when the call ended
    copies: bool  # whether the leaves are copies, and only copies of them are handed out

    @staticmethod
    def of(value: Any, copies: bool) -> "Recorded":
        leaves, structure = pytree.tree_flatten(value)
        if copies:
            leaves = [_copied(leaf) for leaf in leaves]
        return Recorded(leaves, structure, _versions(leaves), copies)

    def value(self) -> Any:
        leaves = [_copied(leaf) for leaf in self.leaves] if self.copies else self.leaves
        return pytree.tree_unflatten(leaves, self.structure)

    @property
    def intact(self) -> bool:
        """Whether no operation wrote into the leaves since."""
        return self.versions == _versions(self.leaves)


@dataclass(eq=False)
class Call:
    """One call of a module."""

    module: nn.Module | None  # None: the pass itself
    path: Path  # its place among the calls of its caller, of its caller's caller ...
    start: int
    end: float = NEVER
    children: list["Call"] = field(default_factory=list)
    nbytes: int = 0  # of its output
    seconds: float = 0.0
    whole: bool = False  # whether its output is all that it did
    recorded: Recorded | None = None

    def finished_before(self, tick: float) -> list["Call"]:
        """The largest calls that ended before ``tick``, whose output can stand for them."""
        found = []
        for child in self.children:
            if child.start >= tick:
                break
            if child.end < tick and child.whole:
                found.append(child)
            else:
                found.extend(child.finished_before(tick))
        return found


@dataclass(eq=False)
class Trace:
    """A pass over one batch: its calls, and when each tensor of the model was first used.

    ``first_use`` has no entry for a tensor that was not used. A key is a tensor's storage, or a
    module, for what is done to the output of a module.
    """

    root: Call
    first_use: dict[Hashable, float]

    def restart(self, changed: Iterable[Hashable]) -> float:
        """The tick at which a pass with these tensors changed begins to differ."""
        return min((self.first_use.get(key, NEVER) for key in changed), default=NEVER)


def key_of(tensor: torch.Tensor) -> Hashable:
    """What tells that two tensors are the same memory."""
    return tensor.untyped_storage().data_ptr()


def tensors_in(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def owned(module: nn.Module) -> Owned:
    """The tensors of each module in ``module``, without those of its own modules."""
    found: dict[nn.Module, list[Hashable]] = {}
    for owner in module.modules():
        tensors = [*owner.parameters(recurse=False), *owner.buffers(recurse=False)]
        found[owner] = [key_of(tensor) for tensor in tensors if tensor.numel()]
    return found


class FirstUses(TorchFunctionMode):
    """Ticks for every operation, and notes which of the model's tensors it is the first to take.

    Module hooks alone would not see ``query_embedding.weight`` used directly.
    """

    def __init__(self, own: Owned) -> None:
        super().__init__()
        self.tick = 0
        self.seen: dict[Hashable, float] = {}
        self.called: dict[Hashable, float] = {}
        self._own = own
        self._pending = {key for keys in own.values() for key in keys}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.tick += 1
        result = func(*args, **(kwargs or {}))
        if self._pending and not _only_asks(func, result):
            for tensor in _arguments((args, kwargs)):
                key = key_of(tensor)
                if key in self._pending:
                    self._pending.discard(key)
                    self.seen[key] = self.tick
        return result

    def starts(self, module: nn.Module) -> int:
        self.tick += 1
        for key in self._own.get(module, ()):
            self.called.setdefault(key, self.tick)
        return self.tick

    def ends(self, module: nn.Module) -> int:
        self.tick += 1
        # What a hook does to the output comes after the call.
        self.seen.setdefault(module, self.tick + 0.5)
        return self.tick

    def first_use(self) -> dict[Hashable, float]:
        """A tensor that no operation was seen to take may have gone to one that cannot be seen:
        it counts as used from the first call of its module."""
        return self.called | self.seen


def _only_asks(func: Callable[..., Any], result: Any) -> bool:
    name = getattr(func, "__name__", "")
    return name in _ABOUT or (name == "__get__" and not isinstance(result, torch.Tensor))


def _arguments(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _arguments(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _arguments(part)


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _versions(leaves: Iterable[Any]) -> list[int]:
    return [leaf._version for leaf in leaves if isinstance(leaf, torch.Tensor)]

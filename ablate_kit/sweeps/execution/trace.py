"""What happens in a forward pass, and when: module calls, and the first use of every tensor.

Time is counted in ticks: one per operation, per start and per end of a module call.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

Tensors = Iterable[torch.Tensor]
Key = tuple[str, str]  # ("tensor", its name) or ("output", of the module of this name)

NEVER = math.inf

# A recorded value may consist of these; anything else might change or hold what we cannot see.
PLAIN = (int, float, bool, str, bytes, complex, type(None), torch.Size, torch.dtype, torch.device)

# What can be asked of a tensor without looking at its values.
_ABOUT = {"size", "dim", "stride", "numel", "nelement", "element_size", "is_contiguous", "__len__"}
_ABOUT |= {"is_floating_point", "is_complex", "get_device", "storage_offset", "ndimension"}


class CallId(NamedTuple):
    """A call of a module within a pass; the same in every process."""

    module: str  # its name in the model
    number: int  # among the calls of that module, from 0


class Identities:
    """Names, which outlive a process, for the tensors and modules of a model.

    Tensors that are the same memory are one: they go by the first of their names. Tensors must not
    move as long as this is in use.

    Attributes:
        modules: name of each module.
        owned: for each module name the tensors of the module, without those of its own modules.
        by_storage: the key of each address.
        tensors: by their keys; several are of one memory.
    """

    def __init__(self, module: nn.Module) -> None:
        self.modules: dict[nn.Module, str] = {}
        self.owned: dict[str, list[Key]] = {}
        self.by_storage: dict[int, Key] = {}
        self.tensors: dict[Key, list[torch.Tensor]] = {}
        for name, owner in module.named_modules():
            self.modules[owner] = name
            tensors = {**owner._parameters, **owner._buffers}
            prefix = f"{name}." if name else ""
            self.owned[name] = [
                self.by_storage.setdefault(_address(tensor), ("tensor", prefix + own))
                for own, tensor in tensors.items()
                if tensor is not None and tensor.numel()
            ]
            for tensor in tensors.values():
                if tensor is not None and tensor.numel():
                    self.tensors.setdefault(self.by_storage[_address(tensor)], []).append(tensor)

    def tensor(self, name: str, tensor: torch.Tensor) -> Key:
        """Of a tensor of the model's ``state_dict``."""
        return self.by_storage.get(_address(tensor), ("tensor", name))

    def output(self, module: nn.Module) -> Key:
        """Of what a module returns, where that is changed after its call."""
        return ("output", self.modules[module])


@dataclass(eq=False)
class CachedOutput:
    """The value that a module call returned, kept to be returned again."""

    leaves: list[Any]
    structure: Any
    versions: list[int]  # of the leaves, when the call ended
    copies: bool  # whether the leaves are copies, and only copies of them are handed out

    @staticmethod
    def of(value: Any, copies: bool) -> "CachedOutput":
        leaves, structure = pytree.tree_flatten(value)
        if copies:
            leaves = [_copied(leaf) for leaf in leaves]
        return CachedOutput(leaves, structure, _versions(leaves), copies)

    def value(self) -> Any:
        leaves = [_copied(leaf) for leaf in self.leaves] if self.copies else self.leaves
        return pytree.tree_unflatten(leaves, self.structure)

    def repeated(self, times: int, images: int) -> Any:
        """The value of a pass over all images ``times`` over, of which this one had so many."""
        leaves = [
            leaf.repeat(times, *[1] * (leaf.dim() - 1))
            if isinstance(leaf, torch.Tensor) and leaf.dim() and len(leaf) == images
            else _copied(leaf)
            for leaf in self.leaves
        ]
        return pytree.tree_unflatten(leaves, self.structure)

    @property
    def intact(self) -> bool:
        """Whether no operation wrote into the leaves since."""
        return self.versions == _versions(self.leaves)


class ActivationStore(Protocol):
    """Outputs of the calls of one pass, kept to be returned again."""

    def put(self, call: CallId, output: CachedOutput) -> None: ...

    def get(self, call: CallId) -> CachedOutput | None:
        """None where it is not kept."""

    def drop(self, call: CallId) -> None:
        """Forgets an output; nothing happens where it is not kept."""


class MemoryActivations:
    """A store on the device where the model runs."""

    def __init__(self) -> None:
        self._kept: dict[CallId, CachedOutput] = {}

    def put(self, call: CallId, output: CachedOutput) -> None:
        self._kept[call] = output

    def get(self, call: CallId) -> CachedOutput | None:
        return self._kept.get(call)

    def drop(self, call: CallId) -> None:
        self._kept.pop(call, None)


@dataclass(eq=False)
class Call:
    """One call of a module, or the pass itself, which has no number."""

    id: CallId
    start: int
    end: float = NEVER
    children: list["Call"] = field(default_factory=list)
    nbytes: int = 0  # of its output
    seconds: float = 0.0
    is_pure: bool = False  # whether its output is all that it did
    structure: Any = None  # of its output, as ``pytree`` has it

    def modules(self) -> Iterator[str]:
        """Of this call and of all calls within it."""
        yield self.id.module
        for child in self.children:
            yield from child.modules()

    def all(self) -> Iterator["Call"]:
        """This call and all calls within it."""
        yield self
        for child in self.children:
            yield from child.all()

    def finished_before(self, tick: float) -> list["Call"]:
        """The largest calls that ended before ``tick``, whose output can stand for them."""
        found = []
        for child in self.children:
            if child.start >= tick:
                break
            if child.end < tick and child.is_pure:
                found.append(child)
            else:
                found.extend(child.finished_before(tick))
        return found


@dataclass(eq=False)
class Trace:
    """A pass over one batch: its calls, and when each tensor of the model was first used.

    ``first_use`` has no entry for a tensor that was not used.
    """

    root: Call
    first_use: dict[Key, float]
    outputs: ActivationStore

    def restart(self, changed: Iterable[Key]) -> float:
        """The tick at which a pass with these tensors changed begins to differ."""
        return min((self.first_use.get(key, NEVER) for key in changed), default=NEVER)


def tensors_in(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """What keeping these tensors keeps: a view keeps all of the memory that it looks at."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


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
                key = self._pending.pop(_address(tensor), None)
                if key is not None:
                    self.seen[key] = self.tick
        return result

    def starts(self, module: str) -> int:
        self.tick += 1
        for key in self._owned.get(module, ()):
            self.called.setdefault(key, self.tick)
        return self.tick

    def ends(self, module: str) -> int:
        self.tick += 1
        # What a hook does to the output comes after the call.
        self.seen.setdefault(("output", module), self.tick + 0.5)
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
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _arguments(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _arguments(part)


def _copied(leaf: Any) -> Any:
    """A copy that lies in memory as the original does: kernels round by it.

    What is expanded stays so, and gaps between rows stay.
    """
    if not isinstance(leaf, torch.Tensor) or leaf.layout != torch.strided:
        return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf
    once = leaf
    for axis, (size, stride) in enumerate(zip(leaf.shape, leaf.stride(), strict=True)):
        if not stride and size > 1:
            once = once.narrow(axis, 0, 1)
    end = 1
    for stride, size in sorted(zip(once.stride(), once.shape, strict=True)):
        if size > 1 and stride < end:
            return leaf.clone()  # rows that overlap cannot be written
        end += stride * (size - 1)
    copy = torch.empty_strided(
        once.shape, once.stride(), dtype=leaf.dtype, device=leaf.device
    ).copy_(once)
    return copy.expand(leaf.shape)


def _versions(leaves: Iterable[Any]) -> list[int]:
    return [leaf._version for leaf in leaves if isinstance(leaf, torch.Tensor)]

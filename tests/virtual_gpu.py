"""A GPU that is not there: tensors of the CPU that say they are on ``cuda:0``, and refuse what it
refuses.

What a CPU cannot show is a tensor that was left on it. Within ``virtual_gpu()`` every storage
remembers where it would be, and operands of two devices raise as on a GPU. Numbers, and the order
of their sums, are those of the CPU. ``virtual_gpu("mps")`` is one of Apple's, which has no float64.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
HERE, ANYWHERE = "cpu", "made by an operation itself, which knows where it runs"
THERE = "on the GPU"


class _Kind:
    """Which device is not there."""

    device = torch.device("cuda", 0)


# Indices may be on the CPU, and a copy is from one device to another.
_MAY_MIX = ("copy_", "index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
_DOUBLE = (torch.float64, torch.complex128)
_WAITS = ("_local_scalar_dense", "nonzero", "equal")


def _holder(tensor: Tensor) -> Any:
    """What remembers the place: the storage, which views share, or a sparse tensor itself."""
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return tensor


def _place(tensor: Tensor) -> str:
    return str(getattr(_holder(tensor), "place", HERE))


def _put(tensor: Tensor, place: str) -> None:
    if place == THERE and _Kind.device.type == "mps" and tensor.dtype in _DOUBLE:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
    _holder(tensor).place = place


def _is_there(device: object) -> bool:
    return device is not None and torch.device(device).type == _Kind.device.type


def _tensors(values: object) -> list[Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, Tensor)]


class _Operations(TorchDispatchMode):
    """Where what operations make is, those of a backward pass, too; how often the host waits."""

    debug = "default"

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if _is_there(device):
            kwargs["device"] = CPU
        operands = _tensors((args, kwargs))
        places = [_place(one) for one in operands]
        if name == "_to_copy":
            made = func(*args, **kwargs)
            _put(made, THERE if _is_there(device) else places[0])  # _Calls knows of ways back
            return made
        there = THERE in places
        lost = [one for one, place in zip(operands, places, strict=True) if place == HERE]
        if there and name not in _MAY_MIX and any(one.dim() for one in lost):
            shown = [(tuple(one.shape), place) for one, place in zip(operands, places, strict=True)]
            raise RuntimeError(
                "Expected all tensors to be on the same device, cpu and "
                f"{_Kind.device}: {func} of {shown}"
            )
        if there and (name in _WAITS or (name == "index" and _has_mask(args[1]))):
            self.wait()
        if there or _is_there(device):
            _check_generator(kwargs.get("generator"))
        made = func(*args, **kwargs)
        known = {id(_holder(one)) for one in operands}
        place = THERE if there or _is_there(device) else HERE if lost else ANYWHERE
        for one in _tensors(made):
            if id(_holder(one)) not in known:
                _put(one, place)
        return made

    def wait(self) -> None:
        if self.debug == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=3)

    def set_debug(self, mode: str) -> None:
        self.debug = mode


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(one is not None and one.dtype == torch.bool for one in indices)


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, place: str) -> Tensor:
        ctx.back = _place(tensor)
        made = tensor.detach().clone(memory_format=torch.preserve_format)
        _put(made, place)
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        made = gradient.clone()
        _put(made, ctx.back)
        return made, None


class _Calls(TorchFunctionMode):
    """What Python asks of tensors: where they are, others elsewhere, new ones."""

    def __init__(self, operations: _Operations) -> None:
        super().__init__()
        self.operations = operations
        self.own: dict[Any, Callable[..., Any]] = {
            Tensor.device.__get__: lambda one: _Kind.device if _place(one) == THERE else None,
            Tensor.is_cuda.__get__: lambda one: self._is(one, "cuda"),
            Tensor.is_mps.__get__: lambda one: self._is(one, "mps"),
            Tensor.is_cpu.__get__: lambda one: _place(one) != THERE,
            Tensor.cpu: lambda one, **_: self._moved(one, CPU),
            Tensor.cuda: lambda one, *_, **__: self._moved(one, _Kind.device),
            Tensor.to: self._to,
            Tensor.pin_memory: lambda one, *_: one,
            Tensor.numpy: self._numpy,
            Tensor.__array__: self._numpy,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.own:
            found = self.own[func](*args, **kwargs)
            return func(*args, **kwargs) if found is None else found
        there = _is_there(kwargs.get("device"))
        if there:
            kwargs["device"] = CPU
            _check_generator(kwargs.get("generator"))
        made = func(*args, **kwargs)
        for one in _tensors(made):
            if there or _place(one) == ANYWHERE:  # at the end of a call it has one
                _put(one, THERE if there else HERE)
        return made

    def _is(self, tensor: Tensor, kind: str) -> bool:
        return _place(tensor) == THERE and _Kind.device.type == kind

    def _moved(self, tensor: Tensor, device: torch.device, waits: bool = True) -> Tensor:
        place = HERE if device.type == "cpu" else THERE
        if _place(tensor) in (place, ANYWHERE):
            return tensor
        if waits or place == HERE:  # what is pinned is sent without waiting
            self.operations.wait()
        return _Moved.apply(tensor, place)

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
        copy = kwargs.pop("copy", False)
        other = kwargs.get("other", args[0] if args else None)
        if isinstance(other, Tensor):
            device, dtype, layout = (
                _Kind.device if _place(other) == THERE else CPU,
                other.dtype,
                None,
            )
            unwaited = bool(kwargs.get("non_blocking"))
        else:
            device, dtype, unwaited, layout = torch._C._nn._parse_to(*args, **kwargs)
        if device is None or device.type not in ("cpu", _Kind.device.type):
            return None
        moved = self._moved(tensor, device, not unwaited)
        rest = {"dtype": dtype, "memory_format": layout}
        rest = {name: value for name, value in rest.items() if value is not None}
        copy = copy and moved is tensor
        return torch.Tensor.to(moved, **rest, copy=copy) if rest or copy else moved

    def _numpy(self, tensor: Tensor, *_: Any, **__: Any) -> None:
        if _place(tensor) == THERE:
            raise TypeError(f"can't convert {_Kind.device} device type tensor to numpy")


class _Generator(torch.Generator):
    """It draws on the CPU, and knows where it should."""

    there = False

    def __new__(cls, device: object = "cpu") -> "_Generator":
        made = super().__new__(cls, "cpu")
        made.there = _is_there(device)
        return made


def _check_generator(generator: torch.Generator | None) -> None:
    if generator is not None and not getattr(generator, "there", False):
        kind = _Kind.device.type
        raise RuntimeError(f"Expected a '{kind}' device type for generator but found 'cpu'")


def _asked(operations: _Operations) -> Callable[..., Any]:
    """The backward pass of a function in Python, where torch would not ask ``_Calls``."""
    before = torch.autograd.function.BackwardCFunction.apply

    def backward(self: Any, *gradients: Any) -> Any:
        with _Calls(operations):
            return before(self, *gradients)

    return backward


def _loaded(*args: Any, before: Callable[..., Any] = torch.load, **kwargs: Any) -> Any:
    there = _is_there(kwargs.get("map_location"))
    found = before(*args, **kwargs | ({"map_location": CPU} if there else {}))
    for one in _tensors(found):
        _put(one, THERE if there else HERE)
    return found


@contextmanager
def virtual_gpu(kind: str = "cuda") -> Iterator[None]:
    """Within, ``cuda`` is a device of this thread, or ``mps``. What is compiled for a GPU is not
    tried."""
    operations = _Operations()
    answers: dict[str, Callable[..., Any]] = {
        "is_available": lambda: kind == "cuda",
        "is_initialized": lambda: kind == "cuda",
        "device_count": lambda: int(kind == "cuda"),
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "virtual",
        "get_device_capability": lambda *_: (9, 0),
        "is_bf16_supported": lambda *_: True,
        "synchronize": lambda *_: operations.wait(),
        "memory_allocated": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "set_device": lambda *_: None,
        "set_sync_debug_mode": operations.set_debug,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda *_: None,
        "_lazy_init": lambda: None,
        "is_current_stream_capturing": lambda: False,
        "_exchange_device": lambda *_: 0,
        "_maybe_exchange_device": lambda *_: 0,
    }
    with ExitStack() as stack:
        stack.enter_context(patch.object(_Kind, "device", torch.device(kind, 0)))
        for name, answer in answers.items():
            stack.enter_context(patch.object(torch.cuda, name, answer))
        # Optimizers ask the driver whether a graph is being captured.
        wait = patch.object(torch.accelerator, "synchronize", lambda *_: operations.wait())
        stack.enter_context(wait)
        nothing = patch.object(torch.accelerator, "current_accelerator", lambda *_, **__: None)
        stack.enter_context(nothing)
        stack.enter_context(patch.object(torch, "Generator", _Generator))
        stack.enter_context(patch.object(torch, "load", _loaded))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "'pin_memory' argument is set")
        backward = torch.autograd.function.BackwardCFunction
        stack.enter_context(patch.object(backward, "apply", _asked(operations)))
        stack.enter_context(_Calls(operations))
        stack.enter_context(operations)
        yield

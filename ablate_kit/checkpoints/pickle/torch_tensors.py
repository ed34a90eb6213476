"""How the pickles of ``torch.save`` spell tensors, after ``torch/_utils.py``: rebuilt as data."""

from collections.abc import Callable
from typing import Any

from ablate_kit.checkpoints.dtypes import ITEM_SIZES
from ablate_kit.checkpoints.pickle.constructors import PLAIN
from ablate_kit.checkpoints.pickle.interpret import interpret
from ablate_kit.checkpoints.pickle.nested_tensors import named_views
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.checkpoints.tensors import Storage, TensorInfo, TensorView, is_possible, reach
from ablate_kit.errors import CheckpointError


class StorageView:
    """A storage as the pickle refers to it: bytes, and the type it gives their elements.

    ``offset`` and ``nbytes`` are those of the part that is referred to: all of the storage, but
    for the storage views that torch before 0.4 wrote.
    """

    __slots__ = ("dtype", "nbytes", "offset", "storage")

    def __init__(self, dtype: str, storage: Storage, start: int = 0, nbytes: int | None = None):
        self.dtype = dtype
        self.storage = storage
        self.offset = storage.offset + start
        self.nbytes = storage.nbytes if nbytes is None else nbytes

    def __repr__(self) -> str:
        return f"storage({self.dtype}, {self.nbytes} bytes)"


def read_tree(
    source: FileSource, stream: bytes, start: int, persistent: Callable[[Any], Any]
) -> tuple[list[TensorInfo], dict[Any, Any]]:
    """The named tensors and the plain data of the pickle at ``start`` of ``stream``.

    In the data every tensor is a ``TensorView``; what is no dictionary is found under the key
    ``""``. ``persistent`` gives the ``StorageView`` of a persistent id.
    """
    try:
        tree, end = interpret(stream, constructors=CONSTRUCTORS, persistent=persistent, start=start)
        tensors = named_tensors(tree, end - start)
    except CheckpointError as error:
        raise unreadable(source, error) from None
    return tensors, tree if isinstance(tree, dict) else {"": tree}


def named_tensors(tree: Any, length: int) -> list[TensorInfo]:
    """The tensors in what a pickle of so many bytes says, by the keys that lead to them."""
    # Real trees name each tensor once or twice, in far fewer characters than rebuild it.
    return [
        TensorInfo(
            view.dtype, view.shape, view.stride, view.offset, view.storage, ".".join(path), path
        )
        for path, view in named_views(tree, 1024 + 16 * length)
    ]


def unreadable(source: FileSource, error: CheckpointError) -> CheckpointError:
    """``error``, which says what is wrong with a pickle, with the file's name before it."""
    return CheckpointError(f"{source.path} cannot be read as a checkpoint: {error}")


def _size(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    return args[0] if len(args) == 1 and isinstance(args[0], tuple) else None


def _tensor(args: tuple[Any, ...]) -> TensorView | None:
    """``(storage, offset, size, stride, requires_grad, hooks, metadata)``; v1 has the first four.

    The metadata tells of lazily conjugated or negated values: the bytes alone are not the tensor.
    """
    match args:
        case (StorageView() as storage, offset, size, stride, *rest) if not any(rest[2:]):
            return _view(storage, storage.dtype, offset, size, stride)
    return None


def _typed_tensor(args: tuple[Any, ...]) -> TensorView | None:
    """``(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)``."""
    match args:
        case (
            StorageView() as storage,
            offset,
            size,
            stride,
            _,
            _,
            UnresolvedObject(module="torch", qualname=dtype, args=None),
            *rest,
        ) if dtype in ITEM_SIZES and not any(rest):
            return _view(storage, dtype, offset, size, stride)
    return None


def _parameter(args: tuple[Any, ...]) -> TensorView | None:
    """``(tensor, requires_grad, hooks)`` and, for Python attributes, a state."""
    return args[0] if args and isinstance(args[0], TensorView) else None


def _from_type(args: tuple[Any, ...]) -> TensorView | None:
    """``(function, class, arguments, state)`` of a tensor with Python attributes.

    Other classes than torch's own may give the bytes another meaning, so these stay opaque.
    """
    match args:
        case (
            UnresolvedObject(module="torch._utils", qualname=function, args=None),
            UnresolvedObject(module=module, qualname=qualname, args=None),
            tuple() as arguments,
            _,
        ) if (module, qualname) in _TENSOR_CLASSES and function in _REBUILDERS:
            return _REBUILDERS[function](arguments)
    return None


_TENSOR_CLASSES = {
    ("torch", "Tensor"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.nn.parameter", "Buffer"),
}
_REBUILDERS = {
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _typed_tensor,
    "_rebuild_parameter": _parameter,
}


CONSTRUCTORS = {
    **PLAIN,
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
}


def _view(
    source: StorageView, dtype: str, offset: Any, size: Any, stride: Any
) -> TensorView | None:
    """The checked view of ``size`` and ``stride`` elements from element ``offset``."""
    if not (isinstance(size, tuple) and isinstance(stride, tuple)):
        return None
    numbers = (offset, *size, *stride)
    if not all(isinstance(one, int) for one in numbers):
        return None
    if len(size) != len(stride) or min(numbers) < 0:
        raise CheckpointError(
            f"it has a tensor of shape {show(size, 60)}, strides {show(stride, 60)} and offset "
            f"{show(offset)}, which no tensor has"
        )
    if not is_possible(size, dtype):
        raise CheckpointError(f"it has a tensor of the impossible shape {show(size, 60)}")
    itemsize = ITEM_SIZES[dtype]
    needed = reach(size, stride)
    if needed and (offset + needed) * itemsize > source.nbytes:
        raise CheckpointError(
            f"it has a {dtype} tensor of shape {show(size, 60)} that reaches beyond its storage "
            f"{show(source.storage.key, 40)} of {source.nbytes} bytes"
        )
    start = source.offset + offset * itemsize if needed else source.offset
    return TensorView(dtype, size, stride, start, source.storage)

"""Files of ``torch.save`` (1.6 and later): a zip archive of a pickle and one record per storage.

``NAME/data.pkl`` is a pickle whose persistent ids name storages, ``NAME/data/KEY`` holds the bytes
of storage KEY; how tensors are rebuilt from them follows ``torch/_utils.py``.
"""

from typing import Any

from .constructors import PLAIN
from .dtypes import ITEM_SIZES, TORCH_STORAGES
from .errors import CheckpointError
from .opaque import Opaque, show
from .pickles import interpret
from .source import Source
from .tensors import Storage, TensorInfo, TensorView, is_possible, reach
from .tree import named_views
from .zip_records import ZipRecord, zip_records


def read_torch_zip(source: Source) -> tuple[list[TensorInfo], dict[Any, Any]]:
    """The named tensors and the tree of plain data of a torch zip file.

    In the tree every tensor is a ``TensorView``. A tree that is no dictionary is found under the
    key ``""``.
    """
    records = zip_records(source)
    prefix = _prefix(source, records)
    pickled = records[f"{prefix}data.pkl"]
    stream = source.read(pickled.offset, pickled.nbytes)
    storages = _Storages(source, records, prefix)
    try:
        tree, _ = interpret(stream, constructors=_CONSTRUCTORS, persistent=storages.find)
        # Real trees name each tensor once or twice, in far fewer characters than rebuild it.
        named = list(named_views(tree, 1024 + 16 * len(stream)))
    except CheckpointError as error:
        raise CheckpointError(f"{source.path} cannot be read as a checkpoint: {error}") from None
    tensors = [
        TensorInfo(
            view.dtype, view.shape, view.stride, view.offset, view.storage, ".".join(path), path
        )
        for path, view in named
    ]
    return tensors, tree if isinstance(tree, dict) else {"": tree}


def _prefix(source: Source, records: dict[str, ZipRecord]) -> str:
    """``"NAME/"`` of a file that holds a checkpoint."""
    found = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise CheckpointError(
            f"{source.path} is a zip archive, but not one of torch.save: it has "
            f"{len(found) or 'no'} data.pkl"
        )
    prefix = found[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in records:
        raise CheckpointError(
            f"{source.path} is a TorchScript program, not a checkpoint; save its state_dict() "
            "with torch.save"
        )
    order = records.get(f"{prefix}byteorder")
    if order is not None and source.read(order.offset, min(order.nbytes, 16)) != b"little":
        raise CheckpointError(f"{source.path} was written on a big-endian machine")
    return prefix


class _StorageView:
    """A storage as the pickle refers to it: bytes, and the type it gives their elements."""

    __slots__ = ("dtype", "storage")

    def __init__(self, dtype: str, storage: Storage) -> None:
        self.dtype = dtype
        self.storage = storage

    def __repr__(self) -> str:
        return f"storage({self.dtype}, {self.storage.nbytes} bytes)"


class _Storages:
    """The storages that a pickle's persistent ids refer to."""

    def __init__(self, source: Source, records: dict[str, ZipRecord], prefix: str) -> None:
        self._source = source
        self._records = records
        self._prefix = prefix
        self._known: dict[str, tuple[str, int, Any]] = {}

    def find(self, identifier: Any) -> Any:
        """The storage of a persistent id ``("storage", class, key, location, numel)``."""
        match identifier:
            case ("storage", Opaque(args=None) as kind, str() as key, _, int() as numel):
                known = self._known.get(key)
                if known is None:
                    known = kind.qualname, numel, self._located(kind, key, numel)
                    self._known[key] = known
                if known[:2] != (kind.qualname, numel):
                    raise CheckpointError(f"it describes storage {show(key, 40)} in two ways")
                return known[2]
        raise CheckpointError(f"it refers to {show(identifier, 80)}, which is no storage")

    def _located(self, kind: Opaque, key: str, numel: int) -> Any:
        record = self._records.get(f"{self._prefix}data/{key}")
        if record is None:
            raise CheckpointError(f"storage {show(key, 40)} is missing from the file")
        dtype = TORCH_STORAGES.get(kind.qualname)
        if dtype is None:
            return Opaque(kind.module, kind.qualname, (key, numel))
        # A storage of bytes may be a little larger than its whole elements.
        if not 0 <= record.nbytes - numel * ITEM_SIZES[dtype] < ITEM_SIZES[dtype]:
            raise CheckpointError(
                f"storage {show(key, 40)} should hold {show(numel)} {dtype} elements, "
                f"but has {record.nbytes} bytes"
            )
        storage = Storage(self._source.path, key, record.offset, record.nbytes, record.checksums)
        return _StorageView(dtype, storage)


def _size(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    return args[0] if len(args) == 1 and isinstance(args[0], tuple) else None


def _tensor(args: tuple[Any, ...]) -> TensorView | None:
    """``(storage, offset, size, stride, requires_grad, hooks, metadata)``; v1 has the first four.

    The metadata tells of lazily conjugated or negated values: the bytes alone are not the tensor.
    """
    match args:
        case (_StorageView() as storage, offset, size, stride, *rest) if not any(rest[2:]):
            return _view(storage, storage.dtype, offset, size, stride)
    return None


def _typed_tensor(args: tuple[Any, ...]) -> TensorView | None:
    """``(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)``."""
    match args:
        case (
            _StorageView() as storage,
            offset,
            size,
            stride,
            _,
            _,
            Opaque(module="torch", qualname=dtype, args=None),
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
            Opaque(module="torch._utils", qualname=function, args=None),
            Opaque(module=module, qualname=qualname, args=None),
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


_CONSTRUCTORS = {
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
    source: _StorageView, dtype: str, offset: Any, size: Any, stride: Any
) -> TensorView | None:
    """The checked view of ``size`` and ``stride`` elements from element ``offset``."""
    match offset, size, stride:
        case int(), tuple(), tuple() if all(isinstance(n, int) for n in (*size, *stride)):
            pass
        case _:
            return None
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise CheckpointError(
            f"it has a tensor of shape {show(size, 60)}, strides {show(stride, 60)} and offset "
            f"{show(offset)}, which no tensor has"
        )
    if not is_possible(size, dtype):
        raise CheckpointError(f"it has a tensor of the impossible shape {show(size, 60)}")
    itemsize = ITEM_SIZES[dtype]
    needed = reach(size, stride)
    if needed and (offset + needed) * itemsize > source.storage.nbytes:
        raise CheckpointError(
            f"it has a {dtype} tensor of shape {show(size, 60)} that reaches beyond its storage "
            f"{show(source.storage.key, 40)} of {source.storage.nbytes} bytes"
        )
    start = source.storage.offset + offset * itemsize if needed else source.storage.offset
    return TensorView(dtype, size, stride, start, source.storage)

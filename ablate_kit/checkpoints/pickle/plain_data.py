"""What a pickle says, arrays included, as plain data: nothing that it names is called."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.checkpoints.archive import open_archive
from ablate_kit.checkpoints.dtypes import ITEM_SIZES, TORCH_STORAGES
from ablate_kit.checkpoints.edit.elements import carrier
from ablate_kit.checkpoints.floats import decoded
from ablate_kit.checkpoints.formats.detect_format import HEAD, format_of, looks_like
from ablate_kit.checkpoints.pickle.constructors import NUMPY_CODES, PLAIN, Constructor
from ablate_kit.checkpoints.pickle.interpret import interpret, replaced
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.checkpoints.tensors import TensorInfo, TensorView, is_possible, reach
from ablate_kit.checkpoints.values import read_bits
from ablate_kit.errors import CheckpointError

_PICKLES = b"\x80(]}"  # how protocols 2 and later, and 0 and 1 of containers, begin


def read_plain(path: Path) -> Any:
    """The value of a pickle, or of what ``torch.save`` wrote: containers, numbers, text and arrays.

    Tensors and NumPy's arrays become arrays, anything else that is no plain value an
    ``UnresolvedObject``.

    Raises:
        CheckpointError: neither; or a safetensors file.
    """
    with closing(FileSource(path)) as source:
        head = source.read(0, min(HEAD, source.size))
        if format_of(head) not in (None, "numpy-pickle"):
            return _of_torch(path)
        if head[:1] not in _PICKLES or not head:
            raise CheckpointError(f"{path} is no pickle: it seems to be {looks_like(head)}")
        stream = source.read(0, source.size)
    try:
        # Bytes that are spelled as text are an argument twice: decoded, then taken for a storage.
        value, _ = interpret(stream, constructors=_CONSTRUCTORS, copies=2)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    return replaced(value, _array_of)


def _of_torch(path: Path) -> Any:
    with open_archive(path) as archive:
        if archive.format == "safetensors":
            raise CheckpointError(f"{path} is a safetensors file: it holds tensors alone")

        def read(value: Any) -> Any:
            if not isinstance(value, TensorView):
                return _array_of(value)
            info = TensorInfo(
                value.dtype, value.shape, value.stride, value.offset, value.storage, "", ()
            )
            return decoded(read_bits(archive, info), value.dtype)

        tree = dict(archive.metadata)
        return replaced(tree[""] if set(tree) == {""} else tree, read)


def _array_of(value: Any) -> NDArray[Any] | None:
    """NumPy's array: ``(version, shape, dtype, is_fortran, bytes)`` is its state."""
    match value:
        case UnresolvedObject(
            module="numpy", qualname="ndarray", state=(_, tuple() as shape, dtype, order, data)
        ):
            return _shaped(data, dtype, shape, "F" if order else "C")
    return None


def _shaped(data: Any, dtype: Any, shape: tuple[Any, ...], order: Any) -> NDArray[Any] | None:
    match dtype:
        case UnresolvedObject(
            module="numpy", qualname="dtype", args=(str() as code, *_), state=state
        ):
            mark = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        case _:
            return None
    if code not in NUMPY_CODES or mark not in ("<", ">", "=", "|") or not isinstance(data, _BYTES):
        return None
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        return None
    kind = np.dtype(f"{mark}{code}")
    if len(data) != int(np.prod(shape, dtype=object)) * kind.itemsize:
        return None
    return np.frombuffer(data, kind).reshape(shape, order=order)


_BYTES = (bytes, bytearray)


class _Storage:
    """The elements of a tensor that is pickled without ``torch.save``."""

    def __init__(self, dtype: str, data: bytes) -> None:
        self.dtype = dtype
        self.data = data


def _storage(args: tuple[Any, ...]) -> _Storage | None:
    """``(bytes,)``: a file of ``torch.save`` before 1.6 with one storage in it, and no tensor."""
    match args:
        case (bytes() as data,):
            pass
        case _:
            return None
    at = 0
    kinds: list[tuple[str, int]] = []

    def note(identifier: Any) -> Any:
        match identifier:
            case (
                "storage",
                UnresolvedObject(qualname=kind, args=None),
                _,
                _,
                int() as numel,
                None,
            ):
                kinds.append((kind, numel))
        return identifier

    for _ in range(5):  # magic number, version, sizes, the storage, its key
        _, at = interpret(data, constructors={}, persistent=note, start=at)
    if len(kinds) != 1 or kinds[0][0] not in TORCH_STORAGES:
        return None
    return _Storage(TORCH_STORAGES[kinds[0][0]], data[at + 8 :])


def _tensor(args: tuple[Any, ...]) -> NDArray[Any] | None:
    """``(storage, offset, size, stride, ...)``, within the bytes of its storage."""
    match args:
        case (_Storage() as storage, int() as offset, tuple() as size, tuple() as stride, *rest):
            pass
        case _:
            return None
    numbers = (offset, *size, *stride)
    if any(rest[2:]) or len(size) != len(stride):
        return None
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or not is_possible(
        size, storage.dtype
    ):
        return None
    width = carrier(ITEM_SIZES[storage.dtype])
    whole = len(storage.data) // width.itemsize * width.itemsize
    bits = np.frombuffer(storage.data[:whole], width)
    if offset + reach(size, stride) > len(bits) or np.prod(size, dtype=object) > len(bits):
        return None
    steps = [step * width.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(bits[offset:], size, steps, writeable=False)
    return decoded(view, storage.dtype)


_CONSTRUCTORS: Mapping[tuple[str, str], Constructor] = {
    **PLAIN,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
}

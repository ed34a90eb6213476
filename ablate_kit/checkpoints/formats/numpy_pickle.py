"""Plain pickles of dictionaries of NumPy arrays, as Detectron2's model zoo and Paddle keep weights.

An array's bytes lie in the file as they are, from pickle protocol 3 on: a tensor like those of
other files. Where they lie is known only when all of the pickle has been read.
"""

from typing import Any

from ablate_kit.checkpoints.formats.detect_format import Format
from ablate_kit.checkpoints.pickle.interpret import interpret, replaced
from ablate_kit.checkpoints.pickle.pickle_machine import Places
from ablate_kit.checkpoints.pickle.torch_tensors import named_tensors, unreadable
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.checkpoints.tensors import Storage, TensorInfo, TensorView, is_possible, row_major
from ablate_kit.errors import CheckpointError

_DTYPES = {
    "b1": "bool", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64",
    "f2": "float16", "f4": "float32", "f8": "float64", "c8": "complex64", "c16": "complex128",
}  # fmt: skip


_AGAIN = "load it, and write it with pickle's protocol 4 or torch.save"
_TEXT = f"spells its arrays as text, as pickle's protocol 2 does: {_AGAIN}"
_ORDER = f"keeps its arrays in another byte order: {_AGAIN}"
_ODD = f"holds arrays of a kind that is not read: {_AGAIN}"
_PADDLE_KEY = "StructuredToParameterName@@"


def read_numpy_pickle(source: FileSource) -> tuple[Format, list[TensorInfo], dict[Any, Any]]:
    """Whether Paddle wrote it; the named arrays and the tree of plain data, as by ``read_tree``."""
    stream = source.read(0, source.size)
    places: Places = {}
    refused: set[str] = set()
    of_paddle = False

    def view(value: Any) -> TensorView | None:
        nonlocal of_paddle
        match value:
            case UnresolvedObject(module="numpy", qualname="ndarray", state=tuple()):
                found = _view(source, value.state, places)
                if found is None:
                    refused.add(_why_not(value.state))
                return found
            # How Paddle spells its tensors, but for those of a state dict that is saved alone.
            case UnresolvedObject(qualname="tuple", args=((str(), UnresolvedObject() as array),)):
                of_paddle = True
                return view(array)
        return None

    try:
        tree, end = interpret(stream, places=places)
        tree = replaced(tree, view)
        tensors = named_tensors(tree, end)
    except CheckpointError as error:
        raise unreadable(source, error) from None
    if not tensors:
        reason = "holds no arrays"
        if b"_rebuild_tensor" in stream:
            reason = (
                "spells tensors in a way of pickle's own: load it, and write it with torch.save"
            )
        if refused:
            reason = max(refused, key=[_ODD, _ORDER, _TEXT].index)
        raise CheckpointError(f"{source.path} is a plain pickle, not of torch.save, and {reason}")
    tree = tree if isinstance(tree, dict) else {"": tree}
    return "paddle" if of_paddle or _PADDLE_KEY in tree else "numpy-pickle", tensors, tree


def _view(source: FileSource, state: tuple[Any, ...], places: Places) -> TensorView | None:
    """Of an array's state: ``(version, shape, dtype, is_fortran, bytes)``."""
    match state:
        case (
            _,
            tuple() as shape,
            UnresolvedObject(
                module="numpy", qualname="dtype", args=(str() as code, *_), state=(_, order, *_)
            ),
            fortran,
            bytes() | bytearray() as data,
        ) if code in _DTYPES and order in ("<", "|", "="):
            pass
        case _:
            return None
    if not all(type(size) is int and size >= 0 for size in shape):
        return None
    # Python has one object for all bytes of a single byte: where they lie is not known.
    at, there = places.get(id(data), (0, b""))
    dtype = _DTYPES[code]
    if there is not data or len(data) < 2 or not is_possible(shape, dtype):
        return None
    stride = row_major(shape[::-1])[::-1] if fortran else row_major(shape)
    storage = Storage(source.path, str(at), at, len(data))
    view = TensorView(dtype, shape, stride, at, storage)
    return view if view.nbytes == len(data) else None


def _why_not(state: tuple[Any, ...]) -> str:
    match state:
        case (_, _, UnresolvedObject(state=(_, ">", *_)), _, _):
            return _ORDER
        case (_, _, UnresolvedObject(args=(str() as code, *_)), _, bytes()) if code in _DTYPES:
            return _TEXT
    return _ODD

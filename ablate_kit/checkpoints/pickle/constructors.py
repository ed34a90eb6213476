"""The few plain values that pickles spell as calls: rebuilt here as data."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject

Constructor = Callable[[tuple[Any, ...]], Any]
"""A pure function of a call's arguments: the value, or None for arguments it does not know."""


def as_key(value: Any) -> Any:
    """``value`` as a dictionary key or set member: itself, or boxed where hashing is unsafe.

    Python hashes tuples recursively, and long integers and tuples of integers to values that the
    writer of a file can choose, which makes dictionaries quadratic. Few files have such keys; there
    they become an ``UnresolvedObject`` that holds the key.
    """
    if isinstance(value, int):
        return value if value.bit_length() <= _SAFE_BITS else UnresolvedObject("", "key", (value,))
    if isinstance(value, str | bytes | float | UnresolvedObject) or value is None:
        return value
    return UnresolvedObject("", "key", (value,))


_SAFE_BITS = 60  # an int below 2**61 - 1 is its own hash


def _mapping(args: tuple[Any, ...]) -> dict[Any, Any] | None:
    match args:
        case ():
            return {}
        case (dict() as items,):
            return dict(items)
        case (list() as pairs,) if all(
            isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
        ):
            return {as_key(key): value for key, value in pairs}
    return None


def _set_of(kind: type[Any]) -> Constructor:
    def made(args: tuple[Any, ...]) -> Any:
        match args:
            case ():
                return kind()
            case (list() | tuple() | set() | frozenset() as items,):
                return kind(map(as_key, items))
        return None

    return made


def _complex(args: tuple[Any, ...]) -> complex | None:
    match args:
        case (float() | int() as real, float() | int() as imaginary):
            try:
                return complex(real, imaginary)
            except OverflowError:
                return None
    return None


def _bytearray(args: tuple[Any, ...]) -> bytearray | None:
    match args:
        case ():
            return bytearray()
        case (bytes() as data,):
            return bytearray(data)
        case (str() as text, "latin-1"):
            encoded = _encoded((text, "latin1"))
            return None if encoded is None else bytearray(encoded)
    return None


def _encoded(args: tuple[Any, ...]) -> bytes | None:
    """How protocols 0 to 2 spell bytes: ``_codecs.encode(text, "latin1")``."""
    match args:
        case (str() as text, "latin1" | "latin-1"):
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                return None
    return None


def _numpy_scalar(args: tuple[Any, ...]) -> bool | int | float | None:
    """``scalar(dtype(code, ...), bytes)`` of a plain number; the byte order is in dtype's state."""
    match args:
        case (
            UnresolvedObject(
                module="numpy",
                qualname="dtype",
                args=(str() as code, *_),
                state=(_, "<" | "=" | "|", *_),
            ),
            bytes() as data,
        ) if code in NUMPY_CODES and len(data) == struct.calcsize(NUMPY_CODES[code]):
            value: bool | int | float = struct.unpack(NUMPY_CODES[code], data)[0]
            return value
    return None


NUMPY_CODES = {
    "b1": "<?", "i1": "<b", "i2": "<h", "i4": "<i", "i8": "<q",
    "u1": "<B", "u2": "<H", "u4": "<I", "u8": "<Q", "f2": "<e", "f4": "<f", "f8": "<d",
}  # fmt: skip


def _numpy_array(args: tuple[Any, ...]) -> UnresolvedObject | None:
    """``_reconstruct(class, shape, code)``: the array follows as the state, so show its class."""
    match args:
        case (UnresolvedObject(module=module, qualname=qualname, args=None), *_):
            return UnresolvedObject(module, qualname, ())
    return None


def _numpy_buffer(args: tuple[Any, ...]) -> UnresolvedObject | None:
    """``_frombuffer(bytes, dtype, shape, order)``, an array of protocol 5: as others spell it."""
    match args:
        case (
            bytes() | bytearray() as data,
            UnresolvedObject() as dtype,
            tuple() as shape,
            "C" | "F" as order,
        ):
            state = (1, shape, dtype, order == "F", data)
            return UnresolvedObject("numpy", "ndarray", (), state=state)
    return None


PLAIN: Mapping[tuple[str, str], Constructor] = {
    ("collections", "OrderedDict"): _mapping,
    ("collections", "Counter"): _mapping,
    # The first argument is what makes missing values.
    ("collections", "defaultdict"): lambda args: _mapping(args[1:]),
    ("builtins", "dict"): _mapping,
    ("builtins", "set"): _set_of(set),
    ("builtins", "frozenset"): _set_of(frozenset),
    ("builtins", "complex"): _complex,
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "bytes"): lambda args: b"" if args == () else None,
    ("_codecs", "encode"): _encoded,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
    ("numpy.core.multiarray", "_reconstruct"): _numpy_array,
    ("numpy._core.multiarray", "_reconstruct"): _numpy_array,
    ("numpy.core.numeric", "_frombuffer"): _numpy_buffer,
    ("numpy._core.numeric", "_frombuffer"): _numpy_buffer,
}
"""(module, qualified name) of a callable, and what rebuilds its result without it."""

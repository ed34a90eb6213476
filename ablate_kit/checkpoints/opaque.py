"""What a pickle names and nobody here constructs, and how values from a pickle are printed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from .tensors import TensorView

_DEEPEST = 6
_LONGEST_BYTES = 32
_LONGEST_INT = 256  # bits
_LARGEST_SET = 64


@dataclass(eq=False, slots=True, repr=False)
class Opaque:
    """A class, a function, or the result of calling one, that a pickle names: kept as data.

    ``args`` is None for the bare class or function and the tuple of arguments for a call;
    ``kwargs`` the keyword arguments of a call; ``state`` what the pickle would set on the object
    (most often its ``__dict__``); ``items`` what it would append, or (key, value) pairs it would
    set. Equal only to itself; prints as its name and arguments, in bounded length.
    """

    # Two strings, not one joined: a pickle can pair a few long ones in very many ways.
    module: str
    qualname: str
    args: tuple[Any, ...] | None = None
    kwargs: Any = None
    state: Any = None
    items: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """``"module.qualname"``."""
        return f"{self.module}.{self.qualname}" if self.module else self.qualname

    def __repr__(self) -> str:
        return show(self)


def show(value: Any, limit: int = 200) -> str:
    """``value`` as text of at most ``limit`` characters, however deep, wide or cyclic it is."""
    pieces: list[str] = []
    length = 0
    for piece in _pieces(value, limit, _DEEPEST):
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            return "".join(pieces)[: limit - 1] + "…"
    return "".join(pieces)


def _pieces(value: Any, limit: int, depth: int) -> Iterator[str]:
    if depth == 0 and isinstance(value, Opaque | dict | list | tuple | set | frozenset):
        yield "…"
    elif isinstance(value, Opaque):
        yield from _call(value, limit, depth - 1)
    elif isinstance(value, dict):
        entries = (_entry(key, ": ", item, limit, depth - 1) for key, item in value.items())
        yield from _listed("{", entries, "}")
    elif isinstance(value, list):
        yield from _listed("[", (_pieces(item, limit, depth - 1) for item in value), "]")
    elif isinstance(value, tuple):
        closing = ",)" if len(value) == 1 else ")"
        yield from _listed("(", (_pieces(item, limit, depth - 1) for item in value), closing)
    elif isinstance(value, set | frozenset):
        # Sorted, because the order of a set of strings differs from process to process.
        if len(value) > _LARGEST_SET:
            yield f"<set of {len(value)} items>"
        else:
            members = sorted(show(item, limit) for item in value)
            yield from _listed("{", ([member] for member in members), "}")
    else:
        yield _atom(value, limit)


def _atom(value: Any, limit: int) -> str:
    if isinstance(value, TensorView):
        return f"tensor({value.dtype}, {show(value.shape, limit)})"
    if isinstance(value, str):
        return repr(value[: limit + 1])
    if isinstance(value, bytes | bytearray) and len(value) > _LONGEST_BYTES:
        return f"<{len(value)} bytes>"
    if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
        return f"<int of {value.bit_length()} bits>"
    return repr(value)


def _call(value: Opaque, limit: int, depth: int) -> Iterator[str]:
    if value.module:
        yield _printable(value.module[:limit]) + "."
    yield _printable(value.qualname[:limit])
    if value.args is None and value.state is None and not value.items:
        return
    yield from _listed("(", _arguments(value, limit, depth), ")")


def _arguments(value: Opaque, limit: int, depth: int) -> Iterator[Iterable[str]]:
    for item in chain(value.args or (), value.items):
        yield _pieces(item, limit, depth)
    for named in (value.kwargs, value.state):
        if isinstance(named, dict):
            for key, item in named.items():
                yield _entry(key, "=", item, limit, depth)
        elif named is not None:
            yield _entry("state", "=", named, limit, depth)


def _entry(key: Any, separator: str, item: Any, limit: int, depth: int) -> Iterator[str]:
    if separator == "=" and isinstance(key, str) and key.isidentifier():
        yield key[:limit]
    else:
        yield from _pieces(key, limit, depth)
    yield separator
    yield from _pieces(item, limit, depth)


def _listed(opening: str, members: Iterable[Iterable[str]], closing: str) -> Iterator[str]:
    yield opening
    for number, member in enumerate(members):
        if number:
            yield ", "
        yield from member
    yield closing


def _printable(name: str) -> str:
    # A name may hold control characters, which must not reach a terminal as they are.
    return name if name.isprintable() else repr(name)[1:-1]

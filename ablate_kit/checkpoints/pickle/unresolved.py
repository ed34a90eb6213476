"""What a pickle names and nobody here constructs, and how values from a pickle are printed."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ablate_kit.checkpoints.tensors import TensorView

_DEEPEST = 6
_LONGEST_BYTES = 32
_LONGEST_INT = 256  # bits
_LARGEST_SET = 64
_MOST_PIECES = 20_000  # that one value is printed in


@dataclass(eq=False, slots=True, repr=False)
class UnresolvedObject:
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
    return _Printer(limit).text(value, _DEEPEST, limit)


class _Printer:
    """Prints one value, in work that is bounded as its text is.

    All but sets is printed from its beginning until there is enough text. A set has no beginning:
    its order differs from process to process, so all of it is printed and sorted. That is done for
    small ones, not for sets within sets, and only while ``work`` is left.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._work = _MOST_PIECES
        self._in_set = False

    def text(self, value: Any, depth: int, limit: int) -> str:
        pieces: list[str] = []
        length = 0
        for piece in self._pieces(value, depth):
            pieces.append(piece)
            length += len(piece)
            self._work -= 1
            if length > limit:
                return "".join(pieces)[: limit - 1] + "…"
        return "".join(pieces)

    def _pieces(self, value: Any, depth: int) -> Iterator[str]:
        if depth == 0 and isinstance(
            value, UnresolvedObject | dict | list | tuple | set | frozenset
        ):
            yield "…"
        elif isinstance(value, UnresolvedObject):
            yield from self._call(value, depth - 1)
        elif isinstance(value, dict):
            entries = (self._entry(key, ": ", item, depth - 1) for key, item in value.items())
            yield from _listed("{", entries, "}")
        elif isinstance(value, list):
            yield from _listed("[", (self._pieces(item, depth - 1) for item in value), "]")
        elif isinstance(value, tuple):
            closing = ",)" if len(value) == 1 else ")"
            yield from _listed("(", (self._pieces(item, depth - 1) for item in value), closing)
        elif isinstance(value, set | frozenset):
            members = self._members(value, depth - 1)
            if members is None:
                yield f"<set of {len(value)} items>"
            else:
                yield from _listed("{", ([member] for member in members), "}")
        else:
            yield self._atom(value)

    def _members(self, value: AbstractSet[Any], depth: int) -> list[str] | None:
        if self._in_set or len(value) > _LARGEST_SET or self._work < 0:
            return None
        self._in_set = True
        members = sorted(self.text(item, depth, self._limit) for item in value)
        self._in_set = False
        return members if self._work >= 0 else None

    def _atom(self, value: Any) -> str:
        if isinstance(value, TensorView):
            return f"tensor({value.dtype}, {show(value.shape, self._limit)})"
        if isinstance(value, str):
            return repr(value[: self._limit + 1])
        if isinstance(value, bytes | bytearray) and len(value) > _LONGEST_BYTES:
            return f"<{len(value)} bytes>"
        if isinstance(value, int) and value.bit_length() > _LONGEST_INT:
            return f"<int of {value.bit_length()} bits>"
        return repr(value)

    def _call(self, value: UnresolvedObject, depth: int) -> Iterator[str]:
        if value.module:
            yield _printable(value.module[: self._limit]) + "."
        yield _printable(value.qualname[: self._limit])
        if value.args is None and value.state is None and not value.items:
            return
        yield from _listed("(", self._arguments(value, depth), ")")

    def _arguments(self, value: UnresolvedObject, depth: int) -> Iterator[Iterable[str]]:
        for item in chain(value.args or (), value.items):
            yield self._pieces(item, depth)
        for named in (value.kwargs, value.state):
            if isinstance(named, dict):
                for key, item in named.items():
                    yield self._entry(key, "=", item, depth)
            elif named is not None:
                yield self._entry("state", "=", named, depth)

    def _entry(self, key: Any, separator: str, item: Any, depth: int) -> Iterator[str]:
        if separator == "=" and isinstance(key, str) and key.isidentifier():
            yield key[: self._limit]
        else:
            yield from self._pieces(key, depth)
        yield separator
        yield from self._pieces(item, depth)


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

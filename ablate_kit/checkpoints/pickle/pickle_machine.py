"""The machine that a pickle stream is a program of, with data in place of objects."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate_kit.checkpoints.pickle.constructors import Constructor
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.errors import CheckpointError

UNSIGNED_4 = struct.Struct("<I")


Places = dict[int, tuple[int, bytes | bytearray]]
"""Where bytes lie in the stream, by their ``id``; with them."""


class EndOfStreamError(IndexError):
    """The stream ends where the pickle goes on."""


@dataclass(eq=False, repr=False)
class Machine:
    """The state of one interpretation: position, stack, marked stacks below it, memo.

    ``allowance``: bytes that constructors may copy in all, as an argument can be used again at the
    cost of two.
    """

    stream: bytes
    at: int
    constructors: Mapping[tuple[str, str], Constructor]
    persistent: Callable[[Any], Any] | None
    allowance: int
    places: Places | None
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.stream):
            raise EndOfStreamError
        data = self.stream[self.at : end]
        self.located(data, self.at)
        self.at = end
        return data

    def located(self, data: bytes | bytearray, at: int) -> None:
        if self.places is not None:
            self.places[id(data)] = at, data  # held, so that the id stays its own

    def line(self) -> bytes:
        end = self.stream.find(b"\n", self.at)
        if end < 0:
            raise EndOfStreamError
        data = self.stream[self.at : end]
        self.at = end + 1
        return data

    def number(self, width: int) -> int:
        """A little-endian unsigned integer of ``width`` bytes."""
        return int.from_bytes(self.take(width), "little")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def name(self, module: Any, qualname: Any) -> UnresolvedObject:
        if not (isinstance(module, str) and isinstance(qualname, str)):
            raise ValueError
        return UnresolvedObject(_PYTHON_2_MODULES.get(module, module), qualname)

    def call(self, function: Any, args: Any, kwargs: Any = None) -> Any:
        if not (isinstance(function, UnresolvedObject) and isinstance(args, tuple)):
            raise CheckpointError(
                f"the pickle calls {show(function, 60)} with {show(args, 60)} "
                f"near byte {self.at}, which is no call"
            )
        if function.args is not None:
            return UnresolvedObject("", "call", (function, args), kwargs or None)
        constructor = self.constructors.get((function.module, function.qualname))
        if constructor is not None and not kwargs:
            for arg in args:
                if isinstance(arg, _SIZED):
                    self.allowance -= len(arg)
            if self.allowance < 0:
                raise CheckpointError("the pickle expands to many times its own size")
            value = constructor(args)
            if value is not None:
                return value
        return UnresolvedObject(function.module, function.qualname, args, kwargs or None)

    def resolve(self, identifier: Any) -> Any:
        if self.persistent is None:
            raise CheckpointError("the pickle refers to data outside itself")
        return self.persistent(identifier)


_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_PYTHON_2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

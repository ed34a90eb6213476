"""Reads a pickle stream as data; never imports or calls what it names.

Plain values become themselves; whatever a stream names becomes an ``Opaque``, except for what a
table of constructors rebuilds. There is no recursion, and what is copied or compared is bounded by
the stream's length, so that time and memory are too.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .constructors import PLAIN, Constructor
from .errors import CheckpointError
from .pickle_machine import EndOfStreamError, Machine
from .pickle_opcodes import OPCODES

_STOP = ord(".")

_MALFORMED = (
    IndexError,  # an empty stack, or the end of the stream
    KeyError,  # an unset memo entry
    ValueError,  # a number or text that is none; includes UnicodeDecodeError
)


class UnfinishedError(CheckpointError):
    """The stream ended before the pickle did."""


def interpret(
    stream: bytes,
    *,
    constructors: Mapping[tuple[str, str], Constructor] = PLAIN,
    persistent: Callable[[Any], Any] | None = None,
    start: int = 0,
) -> tuple[Any, int]:
    """The value of the pickle at ``start``, and the position after its end.

    ``constructors`` maps (module, qualified name) to a pure function of the argument tuple that
    returns the value, or None for arguments it does not know, which leaves an ``Opaque``.
    ``persistent`` turns a persistent id into a value. The value may share parts and hold cycles
    and may be nested as deeply as the stream is long: walk it iteratively.

    Raises ``CheckpointError``, without the file's name, for a stream that is no pickle, and
    ``UnfinishedError``, which is one, for the beginning of a pickle.
    """
    machine = Machine(stream, start, constructors, persistent)
    try:
        return _run(machine), machine.at
    except EndOfStreamError:
        raise UnfinishedError(
            f"the pickle is malformed near byte {machine.at}: cut short?"
        ) from None
    except _MALFORMED:
        raise CheckpointError(f"the pickle is malformed near byte {machine.at}") from None


def _run(machine: Machine) -> Any:
    stream = machine.stream
    while True:
        if machine.at >= len(stream):
            raise EndOfStreamError
        code = stream[machine.at]
        machine.at += 1
        if code == _STOP:
            return machine.pop()
        step = OPCODES.get(code)
        if step is None:
            raise CheckpointError(f"byte {machine.at - 1} of the pickle is no opcode: {code:#04x}")
        step(machine)

"""Reads a pickle stream as data; never imports or calls what it names.

Plain values become themselves; whatever a stream names becomes an ``UnresolvedObject``, except for
what a table of constructors rebuilds. There is no recursion, and what is copied or compared is
bounded by the stream's length, so that time and memory are too.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from ablate_kit.checkpoints.pickle.constructors import PLAIN, Constructor
from ablate_kit.checkpoints.pickle.pickle_machine import EndOfStreamError, Machine, Places
from ablate_kit.checkpoints.pickle.pickle_opcodes import OPCODES
from ablate_kit.errors import CheckpointError

_STOP = ord(".")
_STEPS = [OPCODES.get(code) for code in range(256)]  # None for the end, and for what is no opcode
# A tensor takes some 40: room for the weights, an average and an optimizer's state of the largest
# models. Each step may make an object of 64 bytes out of one byte of the file.
_MOST_STEPS = 16_000_000

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
    copies: int = 1,
    places: Places | None = None,
) -> tuple[Any, int]:
    """The value of the pickle at ``start``, and the position after its end.

    ``constructors`` maps (module, qualified name) to a pure function of the argument tuple that
    returns the value, or None for arguments it does not know, which leaves an ``UnresolvedObject``.
    ``copies`` is how often what is in the stream may be an argument of theirs, in all.
    ``places`` is filled with where bytes of the value lie in the stream, by their ``id``.
    ``persistent`` turns a persistent id into a value. The value may share parts and hold cycles
    and may be nested as deeply as the stream is long: walk it iteratively.

    Raises ``CheckpointError``, without the file's name, for a stream that is no pickle, and
    ``UnfinishedError``, which is one, for the beginning of a pickle.
    """
    machine = Machine(stream, start, constructors, persistent, copies * len(stream), places)
    try:
        return _run(machine), machine.at
    except (*_MALFORMED, struct.error) as error:
        # Opcodes of one byte run into the end with a bare IndexError.
        if isinstance(error, EndOfStreamError | struct.error) or machine.at >= len(stream):
            raise UnfinishedError(
                f"the pickle is malformed near byte {machine.at}: cut short?"
            ) from None
        raise CheckpointError(f"the pickle is malformed near byte {machine.at}") from None


def _run(machine: Machine) -> Any:
    stream, steps = machine.stream, _STEPS
    for _ in range(_MOST_STEPS):
        step = steps[stream[machine.at]]
        machine.at += 1
        if step is None:
            break
        step(machine)
    else:
        raise CheckpointError(
            f"the pickle is a program of more than {_MOST_STEPS:,} steps; a checkpoint's has fewer"
        )
    code = stream[machine.at - 1]
    if code != _STOP:
        raise CheckpointError(f"byte {machine.at - 1} of the pickle is no opcode: {code:#04x}")
    return machine.pop()


def replaced(value: Any, by: Callable[[Any], Any]) -> Any:
    """``value`` with what ``by`` gives in place of its parts, where that is something.

    Containers may be shared and hold themselves: each is changed once, where it is.
    """
    top = [value]
    waiting: list[Any] = [top]
    seen = {id(top)}
    while waiting:
        container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in list(items):
            new = by(item)
            if new is not None:
                if not isinstance(container, tuple):
                    container[key] = new
            elif isinstance(item, dict | list | tuple) and id(item) not in seen:
                seen.add(id(item))
                waiting.append(item)
    return top[0]

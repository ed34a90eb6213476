"""The pickle opcodes that push one plain value: constants, numbers, text, bytes."""

import re
import struct
from collections.abc import Callable
from typing import Any

from ablate_kit.checkpoints.pickle.pickle_machine import UNSIGNED_4, EndOfStreamError, Machine

_SIGNED_4 = struct.Struct("<i")


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.push(value)


# The opcodes that real checkpoints are full of do without the machine's helpers: a call of one
# takes as long as all else here. Beyond the stream's end they raise IndexError or struct.error.


def _byte(machine: Machine) -> None:
    machine.stack.append(machine.stream[machine.at])
    machine.at += 1


def _signed(machine: Machine) -> None:
    at = machine.at
    machine.stack.append(_SIGNED_4.unpack_from(machine.stream, at)[0])
    machine.at = at + 4


def _long(width: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        data = machine.take(machine.number(width))
        machine.push(int.from_bytes(data, "little", signed=True))

    return step


def _int_line(machine: Machine) -> None:
    text = machine.line()
    booleans = {b"00": False, b"01": True}
    machine.push(booleans[text] if text in booleans else int(text))


def _text_4(machine: Machine) -> None:
    start = machine.at + 4
    (length,) = UNSIGNED_4.unpack_from(machine.stream, machine.at)
    data = machine.stream[start : start + length]
    if len(data) != length:
        raise EndOfStreamError
    machine.stack.append(str(data, "utf-8", "surrogatepass"))
    machine.at = start + length


def _text(width: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push(
        machine.take(machine.number(width)).decode("utf-8", "surrogatepass")
    )


def _data(width: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push(machine.take(machine.number(width)))


def _bytearray(machine: Machine) -> None:
    length = machine.number(8)
    start = machine.at
    data = bytearray(machine.take(length))
    machine.located(data, start)
    machine.push(data)


def _python_2_string(width: int) -> Callable[[Machine], None]:
    return lambda machine: machine.push(_decoded(machine.take(machine.number(width))))


def _python_2_string_line(machine: Machine) -> None:
    quoted = machine.line().strip()
    if len(quoted) < 2 or quoted[:1] not in b"'\"" or quoted[-1:] != quoted[:1]:
        raise ValueError
    machine.push(_decoded(_ESCAPE.sub(_unescaped, quoted[1:-1])))


# The escapes that Python 2's repr of a string produces.
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescaped(match: re.Match[bytes]) -> bytes:
    hexadecimal, character = match.groups()
    if hexadecimal:
        return bytes.fromhex(hexadecimal.decode("ascii"))
    return _ESCAPED.get(character, character)


def _decoded(data: bytes) -> str | bytes:
    # Python 2 had one type for text and bytes.
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


LITERALS: dict[int, Callable[[Machine], None]] = {
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("K"): _byte,
    ord("M"): lambda machine: machine.push(machine.number(2)),
    ord("J"): _signed,
    0x8A: _long(1),
    0x8B: _long(4),
    ord("I"): _int_line,
    ord("L"): lambda machine: machine.push(int(machine.line().removesuffix(b"L"))),
    ord("F"): lambda machine: machine.push(float(machine.line())),
    ord("G"): lambda machine: machine.push(struct.unpack(">d", machine.take(8))[0]),
    0x8C: _text(1),
    ord("X"): _text_4,
    0x8D: _text(8),
    ord("V"): lambda machine: machine.push(machine.line().decode("raw-unicode-escape")),
    ord("C"): _data(1),
    ord("B"): _data(4),
    0x8E: _data(8),
    0x96: _bytearray,
    ord("U"): _python_2_string(1),
    ord("T"): _python_2_string(4),
    ord("S"): _python_2_string_line,
    ord(")"): _constant(()),
}
"""Opcode and what it does to the machine."""

"""What one field of an annotation file says: a number, a mark, a text, or nothing of the kind.

Writers differ in how they put down a value ("0", 0.0 and false are all no), so every format is read
by these few rules. What they do not read is refused by their callers, never guessed at.
"""

import json
import re
from collections.abc import Callable
from pathlib import PureWindowsPath
from typing import Literal, get_args

from detector.errors import UserError, did_you_mean

Difficult = Literal["ignore", "keep", "drop"]
Tell = Callable[[str, str], None]  # is told the kind of a problem, and the problem

MOST_PIXELS = 9_999_999  # of a side: more is a mistake, and would not fit into memory

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MARKS = {"": False, "0": False, "false": False, "1": True, "true": True}

# Coordinates are added and multiplied: no result leaves the range of float32.
LARGEST = 1e18


def number(value: object) -> float | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None  # NaN is not less


def whole(value: object) -> int | None:
    """A whole number that fits in 64 bits: 7, 7.0 or "7"; None for anything else."""
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value) if len(value) < 30 else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -(2**63) <= value < 2**63 else None


def mark(value: object) -> bool | None:
    """Yes or no: 1 or 0, true or false, also as text; an empty value is no. None: neither."""
    if value is None:
        return False
    if isinstance(value, str):
        return _MARKS.get(value.strip().lower())
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return None


def pixels(value: object) -> int | None:
    """A side of an image."""
    side = whole(value)
    return side if side is not None and 1 <= side <= MOST_PIXELS else None


def stays_inside(name: str) -> bool:
    """Whether the name of a file, as a stranger wrote it, leads into the folder that it is in."""
    parts = PureWindowsPath(name)  # whose rules know both separators and drive letters
    return bool(parts.name) and not (parts.anchor or ".." in parts.parts or "\0" in name)


def check_difficult(value: str) -> None:
    """Refuses what is no way to treat difficult objects."""
    if value not in get_args(Difficult):
        near = did_you_mean(value, get_args(Difficult))
        raise UserError(f'difficult is "{value}"; expected ignore, keep or drop{near}')


def refuse(kind: str, message: str) -> None:
    """Makes a problem of any kind the end."""
    raise UserError(message)


def shown(value: object) -> str:
    """A value of a file in an error message: on one line, and not long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Ledgers: files of JSON lines that are only ever appended to, each with a key of what it tells.

A process that is killed while it appends leaves a part of a line at the end. Readers pass over it,
since it may as well be a line that another process is writing right now; the next one who
appends cuts it off.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from detector.disk.atomic import CannotWriteError
from detector.disk.bounded import read_bounded
from detector.disk.sealed import ChangedError, unsealed
from detector.errors import UserError

KEY_DIGITS = 24
_BLOCK = 1 << 16  # bytes read at once to find the last line

Row = TypeVar("Row")


def key_of(*parts: str) -> str:
    """Hexadecimal digits that tell apart what these texts describe."""
    text = "\n".join(parts).encode("utf-8", "surrogatepass")  # names of classes may hold any
    return hashlib.sha256(text).hexdigest()[:KEY_DIGITS]


def read_rows(path: Path, row: Callable[[Any], Row], what: str) -> list[Row]:
    """What ``row`` makes of the JSON of each complete line; none where there is no file.

    Raises ``UserError`` for a line that is none of ``what``, or was changed since.
    """
    found = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            found.append(row(unsealed(json.loads(line))))
        except ChangedError as error:
            raise UserError(
                f"{path}:{number}: {error}; without the line it is done again"
            ) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, UserError):
            raise UserError(f"{path}:{number} is not a line of {what}") from None
    return found


def whole_lines(path: Path) -> list[bytes]:
    """The complete lines of a file, without their ends; none where there is no file."""
    try:
        data = read_bounded(path)
    except FileNotFoundError:
        return []
    return data.split(b"\n")[:-1]


def append_line(path: Path, line: str, *, sync: bool = True) -> None:
    """Adds a line that is on disk when this returns, if ``sync``; on a full disk, none or a part of
    one."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _append(fd, memoryview(line.encode() + b"\n"))
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise CannotWriteError(path, error) from None


def _append(fd: int, view: memoryview) -> None:
    os.lseek(fd, _end_of_lines(fd), os.SEEK_SET)
    os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))
    while view:
        view = view[os.write(fd, view) :]


def _end_of_lines(fd: int) -> int:
    """Where the last complete line ends."""
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - _BLOCK)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0

"""Reading files that may be anything: up to a size that is said, and no further.

A few hundred bytes of gzip, a device, a pipe that never ends: what is read into memory is bounded
before it is there. ``ABLATE_READ_LIMIT``, which ``ablate --read-limit`` sets, raises every bound;
processes that are started inherit it.
"""

import errno
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from detector.errors import UserError

SETTINGS = 100_000_000
"""Bytes of a recipe, a configuration, a receipt."""
DOCUMENT = 1_000_000_000
"""Bytes of what is read as a whole, such as annotations or an array."""
ROWS = 4_000_000_000
"""Bytes of what is read row by row, such as detections."""

VARIABLE = "ABLATE_READ_LIMIT"
_GZIP = b"\x1f\x8b"
_SIZE = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([kMGT]?)i?B?\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def allowed(most: int) -> int:
    """``most``, or what the user allows where that is more."""
    given = os.environ.get(VARIABLE)
    return max(most, size_of(given, VARIABLE)) if given else most


def size_of(text: str, what: str) -> int:
    """The bytes that ``4GB`` or ``500 MB`` says."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UserError(f'{what} is "{text}"; expected a size such as 500MB or 4GB')
    return int(float(match[1]) * _UNITS[match[2].lower()])


def read_bounded(
    path: Path, most: int = DOCUMENT, *, pipes: bool = False, unpack: bool = False
) -> bytes:
    """All bytes of a file; ``UserError`` where there are more than ``most``.

    As ``open_bounded`` otherwise.
    """
    with open_bounded(path, most, pipes=pipes, unpack=unpack) as file:
        return file.read()


def text_of(path: Path, most: int = DOCUMENT) -> str:
    """All text of a file in UTF-8; ``UserError`` where it is none, or cannot be read."""
    try:
        return read_bounded(path, most).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None


@contextmanager
def open_bounded(
    path: Path, most: int, *, pipes: bool = False, unpack: bool
) -> Iterator[io.BufferedReader]:
    """A file to be read up to ``allowed(most)`` bytes; reading more raises ``UserError``.

    Devices are refused, and pipes unless ``pipes``, which is for what a user names: ``<(zcat ...)``
    is one, and opening the one in somebody's folder would wait for ever. ``unpack`` reads what is
    gzipped as what it holds, of which the size is bounded. The system's errors come as they are.
    """
    most = allowed(most)
    with opened(path, pipes=pipes) as raw:
        size = os.fstat(raw.fileno()).st_size
        if size > most:
            raise too_large(path, most)
        packed = unpack and raw.peek(2)[:2] == _GZIP
        stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        yield io.BufferedReader(_Bounded(stream, path, most), 1 << 16)


def too_large(path: Path | str, most: int) -> UserError:
    """What is said of a file that holds more than ``most`` bytes."""
    limit = f"{most / 1e9:.3g} GB" if most >= 10**9 else f"{most / 1e6:.3g} MB"
    more = 2 ** (most * 2 // 10**9).bit_length()
    return UserError(
        f"{path} holds more than {limit}, which is as much as is read; "
        f'"ablate --read-limit {more}GB ..." reads more'
    )


PACKED_ERRORS = (OSError, EOFError, zlib.error)
"""How a damaged gzip file shows itself while it is read."""


@contextmanager
def opened(path: Path, *, pipes: bool = False) -> Iterator[io.BufferedReader]:
    """A file to be read at any place; what is none is refused as by ``open_bounded``."""
    # Only a pipe that is asked for is waited for, and it is opened once: a writer that found a
    # reader may be gone before a second time.
    waits = pipes and stat.S_ISFIFO(path.stat().st_mode)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if waits else os.O_NONBLOCK))
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not (stat.S_ISREG(mode) or (waits and stat.S_ISFIFO(mode))):
            kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
            raise UserError(f"{path} is {kind}; expected a file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(fd)


class _Bounded(io.RawIOBase):
    def __init__(self, stream: IO[bytes], path: Path, most: int) -> None:
        self._stream, self._path, self._most = stream, path, most
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise too_large(self._path, self._most)
        buffer[: len(data)] = data
        return len(data)

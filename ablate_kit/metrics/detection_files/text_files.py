"""JSON and text out of files, plain or gzipped, with errors that name the file."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ablate_kit.errors import UserError
from detector.disk.bounded import DOCUMENT, PACKED_ERRORS, ROWS, open_bounded, too_large

# Characters read at a time: bounds the memory of a file of any size.
_BLOCK = 1 << 22

_LONGEST_ROW = 64_000_000

_EMPTY = "an empty file"

_BETWEEN_ROWS = re.compile(r"\}\s*,\s*(?=\{)")


def read_lines(path: Path) -> list[str]:
    """Only line feeds end a line: U+2028 and the like may stand in names."""
    with open_text(path) as file:
        return [line.removesuffix("\n") for line in file]


def json_rows(path: Path) -> Iterator[tuple[list[Any], list[int] | None]]:
    """The objects of a file that is one JSON list of them, some thousands at a time.

    A file of gigabytes takes no more memory than a block of it. A block is cut between two objects:
    where that turns out to be inside of one, it does not parse, and grows by the next block. Where
    the file has one object to a line instead, their lines come with them.

    Raises:
        UserError: the file is missing, damaged, or not JSON; the value is no list; or one row is
            too long.
    """
    with open_text(path, ROWS) as file:
        text = file.read(_BLOCK)
        if _begins_json_lines(text):
            yield from _json_lines(file, text, path)
            return
        text = text.lstrip()
        if not text:
            raise UserError(f"{path}: {_EMPTY}; expected COCO results, [] if there are none")
        if not text.startswith("["):
            what = f"this begins with {text[:20]!r}"
            if text.startswith("{"):
                what = "this is an object, as an annotation file is (give that to --annotations)"
            raise UserError(f"{path}: COCO results are one list; {what}")
        text = text[1:]
        while more := file.read(_BLOCK):
            text += more
            if len(text) > _LONGEST_ROW:
                raise too_large(f"one row of {path}", _LONGEST_ROW)
            match = _last_between(text)
            if match is None:
                continue
            try:
                rows = json.loads(f"[{text[: match.start() + 1]}]")
            except (ValueError, RecursionError):
                continue
            yield rows, None
            text = text[match.end() :]
        yield _parsed(f"[{text}", path), None


def _last_between(text: str) -> re.Match[str] | None:
    """The last place between two objects, looked for in ever larger tails of ``text``."""
    tail = 1 << 12
    while True:
        start = max(0, len(text) - tail)
        found = None
        for match in _BETWEEN_ROWS.finditer(text, start):
            found = match
        if found is not None or start == 0:
            return found
        tail *= 8


def _json_lines(
    file: TextIO, text: str, path: Path
) -> Iterator[tuple[list[Any], list[int] | None]]:
    """The values of a file with one to a line, and their lines; ``text`` is its beginning."""
    number, more = 1, text
    text = ""
    while more:
        lines = (text + more).split("\n")
        text = lines.pop()
        if len(text) > _LONGEST_ROW:
            raise too_large(f"{path}:{number + len(lines)}", _LONGEST_ROW)
        yield _values_of(lines, number, path)
        number += len(lines)
        more = file.read(_BLOCK)
    yield _values_of([text], number, path)


def _values_of(lines: list[str], first: int, path: Path) -> tuple[list[Any], list[int]]:
    at = [i for i, line in enumerate(lines, first) if line.strip()]
    return [_parsed(lines[i - first], f"{path}:{i}") for i in at], at


def _begins_json_lines(text: str) -> bool:
    """Whether a file's first line is a whole object: that of COCO results, or one of several."""
    line, _, rest = text.lstrip().partition("\n")
    try:
        first = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and ("bbox" in first or rest.strip() != "")


def _parsed(text: str, path: Path | str) -> Any:
    if not text.strip():
        raise UserError(f"{path}: {_EMPTY}; expected JSON")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from None


@contextmanager
def open_text(path: Path, most: int = DOCUMENT) -> Iterator[TextIO]:
    try:
        with (
            open_bounded(path, most, pipes=True, unpack=True) as stream,
            io.TextIOWrapper(stream, encoding=_encoding(stream.peek(2)[:2])) as file,
        ):
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; expected a file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file: {error}") from None
    except PACKED_ERRORS as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _encoding(head: bytes) -> str:
    """Of a text that begins so: what is written on Windows may begin with a byte order mark."""
    return "utf-16" if head in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"

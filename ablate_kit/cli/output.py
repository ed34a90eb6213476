"""What the commands share: the two streams, numbers in lists, progress."""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be changed, and write nothing.")
]


def say(text: str) -> None:
    """A line, or several, of the command's result."""
    _put(f"{printable(text)}\n")


def warn(notes: Iterable[str]) -> None:
    """Lines on standard error: what did not go as planned and changes no number."""
    for note in notes:
        sys.stderr.write(f"note: {note}\n")


def print_json(value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if text != printable(text):
        text = json.dumps(value, indent=2)
    _put(f"{text}\n")


def _put(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()  # a long run is watched in its log
    except BrokenPipeError:
        raise  # who read it has seen enough
    except OSError as error:
        discard(sys.stdout)
        raise UserError(f"cannot write to standard output: {error.strerror}") from error


def discard(output: TextIO) -> None:
    """Sends what is still to be written to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output.fileno())
        os.close(nowhere)


def printable(text: str) -> str:
    """``text`` with what would move the cursor, color the terminal or not encode spelled out: names
    come from files of strangers."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def check_new_file(path: Path, *suffixes: str) -> None:
    """Refuses a file that exists, or is not named as the format that would be written."""
    if path.suffix not in suffixes:
        expected = " or ".join(suffixes)
        raise UserError(f"cannot write {path}; expected a name ending in {expected}")
    if path.exists():
        raise UserError(f"{path} exists; choose another place or remove it")


@contextmanager
def progress(of_bytes: bool = False) -> "Iterator[Progress]":
    """A progress display on standard error, counting pieces or bytes."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    columns = (
        # A description that is too long for the terminal goes on in the next line.
        TextColumn("{task.description}", table_column=Column(no_wrap=False, overflow="fold")),
        BarColumn(),
        DownloadColumn() if of_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = not console.is_terminal  # a log needs no bars
    with Progress(*columns, console=console, transient=True, disable=hidden) as display:
        yield display


def numbers(text: str, what: str) -> list[float]:
    """[5.0, 10.0] for "5,10"."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f'cannot read {what} "{text}"; expected numbers such as 5,10') from None

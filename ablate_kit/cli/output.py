"""What the commands print: results and warnings, and how to go on."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ablate_kit import text as safe
from ablate_kit.errors import UserError
from detector.errors import check_can_write


def say(text: str) -> None:
    """A line of the command's result."""
    _put(safe.line(text))


def say_lines(text: str) -> None:
    """Several lines, such as a table: what makes them sees to the names in them."""
    _put(safe.lines(text))


def warn(notes: Iterable[str]) -> None:
    """Warnings on standard error, which change no number."""
    for note in notes:
        sys.stderr.write(f"note: {safe.line(note)}\n")


def hear() -> None:
    """From here on, what reading has to say that is no error goes to standard error."""
    from ablate_kit.checkpoints.told import tell_with

    def tell(note: str) -> None:
        sys.stderr.write(f"{safe.line(note)}\n")
        sys.stderr.flush()

    tell_with(tell)


def print_json(value: Any) -> None:
    text = safe.to_json(value, 2)
    # What standard output cannot encode would be spelled as in Python, which is no JSON.
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    _put(text if unicode else json.dumps(value, indent=2))


def _put(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()  # a long run is watched in its log
    except BrokenPipeError:
        raise  # who read it has seen enough
    except OSError as error:
        discard(sys.stdout)
        raise UserError(f"cannot write to standard output: {error.strerror}") from error


def this_command(*, with_option: str = "", without: str = "") -> str:
    """The command line, as it can be given again.

    Args:
        with_option: added where it is not there.
        without: an option that goes, with its value.
    """
    words: list[str] = []
    is_value = False
    for word in sys.argv[1:]:
        if is_value or (without and word.startswith(f"{without}=")):
            is_value = False
        elif without and word == without:
            is_value = True
        else:
            words.append(word)
    if with_option and with_option not in words:
        words.append(with_option)
    return shlex.join(["ablate", *words])


def how_to_resume(folder: Path, kept: str) -> str:
    """What a training run that was stopped says; ``kept``: as the trainer tells it."""
    if not kept:
        return f"{folder} holds nothing to resume from; to begin again: {this_command()}"
    command = this_command(with_option="--resume", without="--init")
    return f"{folder} keeps {kept}; to resume: {command}"


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Holds the lock of a sweep's folder; when stopped, says how to go on with what is in it."""
    from ablate_kit.sweeps.run_folder.ledger import Ledger
    from detector.stopping import keeping

    def kept() -> str:
        if Ledger.begun_in(folder):
            return f"{folder} keeps what is done; to resume: {this_command()}"
        return f"nothing is done yet; to begin again: {this_command()}"

    with Ledger.locked(folder), keeping(kept):
        yield


def say_where(run: Path, conclusion: str = "") -> None:
    """Where the report of a sweep is, and what it comes to."""
    for name, what in (
        ("joint.md", "joint cuts against the sum of their members"),
        ("shapley.md", "Shapley values"),
        ("repeats.md", "repeats, and ablations against random controls"),
    ):
        if (run / "report" / name).exists():
            say(f"{what}: {run / 'report' / name}")
    if conclusion:
        say(conclusion)
    say(f"report: {run / 'report' / 'report.html'}")


def discard(output: TextIO) -> None:
    """Sends what is still to be written to nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output.fileno())
        os.close(nowhere)


def write_json(path: Path, value: Any) -> None:
    path.write_text(safe.to_json(value, 1) + "\n", encoding="utf-8")


def check_new_file(path: Path, *suffixes: str) -> None:
    """Refuses a file that exists, or is not named as the format that would be written."""
    if path.suffix not in suffixes:
        expected = " or ".join(suffixes)
        raise UserError(f"cannot write {path}; expected a name ending in {expected}")
    check_can_write(path)


@contextmanager
def reporting() -> Iterator[None]:
    """Says in a terminal that a report is made, which takes minutes for thousands of images."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status("comparing, for the report"):
        yield

"""Where the commands meet the machine: the streams, signals, and whatever the system refuses.

What goes wrong ends here, and only here: in one line on standard error and an exit code.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import typer

from ablate_kit import text as safe
from ablate_kit.cli.output import discard
from ablate_kit.cli.usage import CommandLineError, error_message, is_help
from ablate_kit.device_errors import is_of_memory
from ablate_kit.errors import UserError
from detector import stopping
from detector.extras import extra_of, missing

REFUSED = 2


def run(command: Callable[[], int | None], named: str = "ablate", extra: str = "eval") -> int:
    """The exit code of a command.

    ``named`` is how it is called, ``extra`` what brings the packages that it needs.

    0 where it ended well, 2 for a mistake and for what the system refuses, 130 after Ctrl-C and
    143 after SIGTERM. Nobody is told where nobody listens: behind a pipe that was closed.
    """
    output = _opened_streams()
    if output is None:
        return _refuse("standard output is closed; send it to a file, or to /dev/null")
    with stopping.listening():
        try:
            code = command() or 0
            output.flush()
        except BaseException as error:
            by = stopping.asked_by()
            if by is not None:  # whatever it was that the signal broke off
                return _stopped(by)
            if isinstance(error, ModuleNotFoundError) and extra_of(error.name):
                brings = extra_of(error.name, extra)
                error = missing(named, str(error.name), brings)
            return _failed(error, output)
        finally:
            sys.stdout = output  # Typer puts another in its place where a pipe was closed
    return code


def _failed(error: BaseException, output: TextIO) -> int:
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        error = error.__context__  # Typer's own end of it
    match error:
        case UserError():
            return _refuse(str(error))
        case typer.Abort():
            return _refuse("aborted")
        case BrokenPipeError():
            discard(output)
            return REFUSED
        case OSError():
            if error.errno in (errno.ENOSPC, errno.EBADF, errno.EIO) and error.filename is None:
                discard(output)  # or it is tried again when Python ends
            return _refuse(_told(error))
        case CommandLineError():
            if is_help(error):
                error.show()  # type: ignore[attr-defined]
                return 0
            return _refuse(error_message(error))
    if is_of_memory(error):
        reason = safe.first_line(error) if str(error) else "ask for less at a time"
        return _refuse(f"not enough memory: {reason}")
    raise error


def _told(error: OSError) -> str:
    """What the system refused, of which file."""
    reason = error.strerror or safe.first_line(error)
    files = [str(one) for one in (error.filename, error.filename2) if one is not None]
    if isinstance(error, FileExistsError) and len(files) == 1 and Path(files[0]).is_file():
        reason = "it is a file, and a folder is needed"
    return f"cannot use {' and '.join(files)}: {reason}" if files else reason


def _stopped(by: int) -> int:
    for one in stopping.SIGNALS:  # which can stop nothing more
        signal.signal(one, signal.SIG_IGN)
    what = "Ctrl-C" if by == signal.SIGINT else signal.Signals(by).name
    kept = stopping.kept()
    # However long it is: the command in it is to be given again.
    _tell(safe.line(f"stopped by {what}; {kept}" if kept else f"stopped by {what}"))
    return 128 + by


def _refuse(message: str) -> int:
    _tell(safe.error(message))
    return REFUSED


def _tell(line: str) -> None:
    try:
        sys.stderr.write(f"ablate: {line}\n")
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)  # nobody is left to tell, and Python 3.14 would end with 120


def _opened_streams() -> TextIO | None:
    """Standard output, None where it is closed; both streams spell out what does not encode."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return sys.stdout

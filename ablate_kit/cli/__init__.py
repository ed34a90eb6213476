"""The command ``ablate``."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Runs the command line; Ctrl-C ends it in one line, however early or late it comes.

    Commands listen by themselves. Here are the moments before, while a second of imports goes by,
    and after, when all is done and Python puts its things away.
    """
    if os.name != "posix":  # the locks of its folders are a POSIX system's
        os.write(2, b"ablate: runs on Linux and macOS; on Windows, in WSL 2\n")
        sys.exit(2)
    # Ignored, as of a job in the background, it stays ignored.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _stopped_before)
    from ablate_kit.cli.app import main as command

    try:
        command()
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stopped_before(number: int, _: FrameType | None) -> None:
    try:
        os.write(2, b"ablate: stopped by Ctrl-C\n")
    finally:  # nothing was begun; an exception would be lost in half an import
        os._exit(128 + number)

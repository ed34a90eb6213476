"""How far a run is, in a log that no terminal shows: a line every so often in place of a bar."""

import sys
from time import monotonic
from typing import TYPE_CHECKING

from ablate_kit import text as safe
from ablate_kit.cli.time_left import TimeLeft
from ablate_kit.plural import duration

if TYPE_CHECKING:
    from rich.progress import Task

EVERY = 30.0  # seconds between two lines
_LONG = 1 / 50  # of the time that a run takes, where that is more: a log of days stays short


class LogLines:
    """The lines of one command.

    A task's fields say what its line does: ``batches``, how many pieces its total stands for;
    ``part``, which of several stretches it is; ``left``: False where its description says when it
    ends.
    """

    def __init__(self, left: TimeLeft) -> None:
        self._left = left
        self._began = self._said = monotonic()

    def tell(self, task: "Task", of_bytes: bool = False) -> None:
        """Writes a line, if it is time for one, on standard error."""
        now = monotonic()
        if not task.total or now - self._said < max(EVERY, _LONG * (now - self._began)):
            return
        self._said = now
        share = min(1.0, task.completed / task.total)
        pieces = task.fields.get("batches")
        if pieces:
            done = f"{int(share * pieces):,} of {pieces:,} batches"
        elif of_bytes:
            done = f"{task.completed / 1e6:,.1f} of {task.total / 1e6:,.1f} MB"
        else:
            done = f"{int(task.completed):,} of {int(task.total):,}"
        line = f"{done}, {share:.0%}"
        if not pieces and task.description:
            line = f"{task.description}: {line}"
        if part := task.fields.get("part"):
            line = f"{part}: {line}"
        left = self._left.seconds(task)
        if left is not None and task.fields.get("left", True):
            line += f"; {duration(left)} left"
        sys.stderr.write(f"{safe.line(line)}\n")
        sys.stderr.flush()

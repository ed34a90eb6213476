"""How far a run is: a bar in a terminal or notebook, or a line every so often in a log; and how
long it still takes, from how long it has taken. A leaf."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any

from ablate_kit import text as safe
from ablate_kit.plural import duration

if TYPE_CHECKING:
    from rich.progress import Progress, Task

EVERY = 30.0  # seconds between two lines
_LONG = 1 / 50  # of the time that a run takes, where that is more: a log of days stays short


@contextmanager
def progress(of_bytes: bool = False) -> "Iterator[Progress]":
    """A progress display on standard error, counting pieces or bytes: a bar in a terminal
    or notebook, and else a line every so often."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Description(TextColumn):
        """A name from a file is no markup."""

        def render(self, task: Task) -> Text:
            return Text(safe.line(task.description))

    left = TimeLeft()
    lines = LogLines(left)

    class Remaining(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            seconds = left.seconds(task)
            told = "" if seconds is None or task.finished else f"{duration(seconds)} left"
            return Text(told, style="progress.remaining")

    class Display(Progress):
        def reset(self, task_id: TaskID, **values: Any) -> None:
            super().reset(task_id, **values)
            left.note(self._tasks[task_id])

        def update(self, task_id: TaskID, **values: Any) -> None:
            super().update(task_id, **values)
            self._tell(task_id)

        def advance(self, task_id: TaskID, advance: float = 1) -> None:
            super().advance(task_id, advance)
            self._tell(task_id)

        def _tell(self, task_id: TaskID) -> None:
            left.note(self._tasks[task_id])
            if hidden:
                lines.tell(self._tasks[task_id], of_bytes)

    columns = (
        # A description that is too long for the terminal goes on in the next line.
        Description("", table_column=Column(no_wrap=False, overflow="fold")),
        BarColumn(),
        DownloadColumn() if of_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(),
    )
    console = Console(stderr=True)
    # A log needs no bars, and a notebook shows them by a library that may not be there.
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    hidden = not (console.is_terminal or notebook)
    with Display(
        *columns, console=console, transient=True, disable=hidden, get_time=lambda: monotonic()
    ) as display:
        yield display


class TimeLeft:
    """Of the tasks of one display.

    A batch of a sweep begins with the unmodified model, which takes longest, and the first one has
    checks of its own. So times are taken where a batch ends, and the first does not count where
    another has ended.
    """

    def __init__(self) -> None:
        self._watches: dict[int, _Watch] = {}

    def note(self, task: "Task") -> None:
        """To be told of every beginning and advance."""
        total, elapsed = task.total or 0, task.elapsed or 0.0
        batches = task.fields.get("batches", 1)
        pieces = batches if batches > 1 else total
        ended = int(task.completed * pieces / total) if total else 0
        watch = self._watches.get(task.id)
        if watch is None or ended < watch.ended or not task.completed:
            watch = self._watches[task.id] = _Watch()
        if ended == watch.ended:
            return
        rate = (elapsed - watch.since) / (task.completed - watch.done)
        watch.end = elapsed + rate * (total - task.completed)
        if batches > 1 and not watch.ended:
            watch.done, watch.since = task.completed, elapsed
        watch.ended = ended

    def seconds(self, task: "Task") -> float | None:
        """None where it cannot be told yet."""
        watch = self._watches.get(task.id)
        if watch is None or watch.end is None:
            return None
        return max(0.0, watch.end - (task.elapsed or 0.0))


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


@dataclass
class _Watch:
    """``end``: after how many seconds; times are taken ``since``, when so much was ``done``."""

    end: float | None = None
    since: float = 0.0
    done: float = 0.0
    ended: int = 0  # batches

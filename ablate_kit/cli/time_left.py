"""How long a run still takes, from how long it has taken."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Task


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


@dataclass
class _Watch:
    """``end``: after how many seconds; times are taken ``since``, when so much was ``done``."""

    end: float | None = None
    since: float = 0.0
    done: float = 0.0
    ended: int = 0  # batches

"""Runs what a scheduler asks for on a pool of workers, of which any may be lost."""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ablate_kit.errors import UserError
from ablate_kit.sweeps.scheduling.scheduler import BatchResult, Stretches, Work


@dataclass(frozen=True)
class Report:
    """What came of a worker.

    Attributes:
        results: of the batches that it has done since the last report.
        lost: it will not answer again.
    """

    worker: Hashable
    results: Sequence[BatchResult]
    lost: bool = False


class Pool(Protocol):
    """Workers, each of which does one piece of work at a time."""

    def workers(self) -> Sequence[Hashable]: ...

    def submit(self, worker: Hashable, work: Work) -> None:
        """Starts it; does not wait."""

    def next_report(self) -> Report:
        """Waits for a worker to have something to tell."""


def run(scheduler: Stretches, pool: Pool, take: Callable[[BatchResult], None]) -> list[str]:
    """Runs until the scheduler has nothing more to ask for.

    What a lost worker had not finished is given to another.

    Args:
        take: is given every result before the scheduler sees it.

    Returns:
        What did not go as planned.

    Raises:
        UserError: no worker is left.
    """
    again: deque[Work] = deque()
    idle = deque(pool.workers())
    busy: dict[Hashable, Work] = {}
    notes: list[str] = []
    while True:
        while idle:
            work = again.popleft() if again else scheduler.next()
            if work is None:
                break
            worker = idle.popleft()
            pool.submit(worker, work)
            busy[worker] = work
        if not busy:
            if again or not idle:
                raise UserError(
                    "no worker is left; what is done is kept, so give the same command again"
                )
            return notes
        report = pool.next_report()
        left = busy.pop(report.worker)
        for result in report.results:
            left = replace(left, batches=tuple(b for b in left.batches if b != result.batch))
            take(result)
            scheduler.observe(result)
        if report.lost and left.batches:
            again.append(left)
            notes.append(f"a worker was lost; {len(left.batches)} batches were run again")
        elif left.batches and not report.lost:
            busy[report.worker] = left
        elif not report.lost:
            idle.append(report.worker)

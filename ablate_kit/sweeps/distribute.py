"""Shards of a study on several workers, of which any may be lost."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from ablate_kit.errors import UserError
from ablate_kit.sweeps.worker import Done, Keys, Shard

MOST = 4  # batches of a shard: what a lost worker costs


class Pool(Protocol):
    """Workers elsewhere, each of which runs one shard at a time."""

    def workers(self) -> Sequence[Hashable]: ...

    def give(self, worker: Hashable, shard: Shard) -> None:
        """Starts a shard; does not wait."""

    def wait(self) -> tuple[Hashable, list[Done] | None]:
        """The next worker that is done, with what it found; None where it is lost."""


def distribute(
    pool: Pool, shards: Iterable[Shard], take: Callable[[list[Done]], None]
) -> list[str]:
    """Runs every shard; what a lost worker had begun is given to another.

    Returns what did not go as planned. Raises ``UserError`` when no worker is left.
    """
    waiting = deque(shards)
    idle = deque(pool.workers())
    busy: dict[Hashable, Shard] = {}
    notes: list[str] = []
    while waiting or busy:
        while waiting and idle:
            worker, shard = idle.popleft(), waiting.popleft()
            pool.give(worker, shard)
            busy[worker] = shard
        if not busy:
            raise UserError(
                "no worker is left; what is done is kept, so give the same command again"
            )
        worker, found = pool.wait()
        shard = busy.pop(worker)
        if found is None:
            waiting.appendleft(shard)
            notes.append(f"a worker was lost; {len(shard.batches)} batches were run again")
        else:
            take(found)
            idle.append(worker)
    return notes


def shards_of(missing: Mapping[Keys, Sequence[int]], workers: int) -> list[Shard]:
    """Batches in small groups; where they are fewer than the workers, variants in groups as well.

    Args:
        missing: batches by the keys of the variants that they lack.
    """
    found = []
    for keys, batches in missing.items():
        size = max(1, min(MOST, len(batches) // (4 * workers)))
        groups = min(len(keys), max(1, -(-workers // len(batches))))
        bounds = [len(keys) * i // groups for i in range(groups + 1)]
        found += [
            Shard(tuple(batches[start : start + size]), keys[first:last])
            for start in range(0, len(batches), size)
            for first, last in pairwise(bounds)
        ]
    return found

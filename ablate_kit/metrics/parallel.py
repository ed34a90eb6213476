"""The same function of many things, in threads; what comes out does not depend on how many."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_MOST = 8  # each holds the detections it works on

Thing = TypeVar("Thing")
Found = TypeVar("Found")


def in_threads(
    function: Callable[[Thing], Found], things: Iterable[Thing], threads: int | None = None
) -> Iterator[Found]:
    """``function`` of each, in their order.

    It should spend its time where Python's lock is not held, as NumPy mostly does. Things are taken
    as threads come free, so that those which ``things`` makes are not all in memory.

    Args:
        threads: by default one per processor that this process may use, at most 8.
    """
    threads = threads or min(processors(), _MOST)
    with ThreadPoolExecutor(threads) as pool:
        running = deque[Future[Found]]()
        try:
            for thing in things:
                running.append(pool.submit(function, thing))
                if len(running) > threads:  # one waits, for the thread that is free next
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

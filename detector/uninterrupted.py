"""Processes that are ended by the one that started them, and by nothing else."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What is started in the block never hears Ctrl-C, which a terminal sends to all processes."""
    resource_tracker.ensure_running()  # which, before Python 3.14, lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

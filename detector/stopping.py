"""Being asked to stop: Ctrl-C, or the SIGTERM that schedulers send.

Where a run may stop at any moment, and go on from what is on disk, it is stopped by an exception.
Where what is in memory would be lost, ``deferred`` lets it come to a point at which it can be kept.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds in which further signals are the same request. A terminal sends Ctrl-C to make, uv or a
# wrapper, too, which hand it on; and people press it several times. If each of them stopped what is
# under way, the second would stop the removal of what was half-written.
SAME = 2.0


class Stopped(BaseException):
    """Raised wherever the run happens to be."""

    def __init__(self, by: int) -> None:
        super().__init__(signal.Signals(by).name)


class _Heard:
    by: int | None = None  # the first signal
    at = 0.0  # when it came
    deferred = 0  # depth of blocks
    kept = ""


_heard = _Heard()


@contextmanager
def listening() -> Iterator[None]:
    """Turns the signals into ``Stopped`` within the block; in the main thread alone.

    One that the caller of the program ignores, as for a job in the background, stays ignored.
    """
    global _heard
    _heard = _Heard()
    owner = os.getpid()

    def hear(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            # A forked child, such as one that prepares images. A terminal sends Ctrl-C to all
            # processes; the child is still needed, and its parent ends it.
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if _heard.by is None:
            _heard.by, _heard.at = number, now
            if _heard.deferred:
                return
        elif now - _heard.at < SAME:
            return
        raise Stopped(number)

    before = {one: signal.getsignal(one) for one in SIGNALS}
    wanted = [one for one in SIGNALS if before[one] is not signal.SIG_IGN]
    for one in wanted:
        signal.signal(one, hear)
    try:
        yield
    finally:
        for one in wanted:
            signal.signal(one, before[one] or signal.SIG_DFL)
        _heard = _Heard()  # another run in this process was not asked


def asked_by() -> int | None:
    """The number of the signal that asked to stop; None where there was none."""
    return _heard.by


@contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """The first signal does not stop the block; it can ask whether there was one.

    A second one that comes later than ``SAME`` stops it at once. Raises ``Stopped`` at the end of
    the block if there was one.
    """
    _heard.deferred += 1
    try:
        yield lambda: _heard.by is not None
    finally:
        _heard.deferred -= 1
    if _heard.by is not None:
        raise Stopped(_heard.by)


@contextmanager
def keeping(what: Callable[[], str]) -> Iterator[None]:
    """``what`` says what is kept, and how to resume, if the block is stopped.

    Of blocks in each other the innermost says it.
    """
    try:
        yield
    except BaseException:
        if _heard.by is not None:
            _heard.kept = _heard.kept or what()
        raise


def kept() -> str:
    """What ``keeping`` noted of a run that was stopped."""
    return _heard.kept

"""Which passes that went on from recordings were compared with full ones, for later processes.

What a recorded call left on its module, beside what it returned, is not in a recording. Whether
anything reads it depends on which calls are replaced and which run: so a check speaks for one set
of replaced calls, of a model with these weights in this environment.
"""

import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ablate_kit.errors import UserError
from ablate_kit.sweeps.execution.identities import CallId
from ablate_kit.sweeps.execution.trace import Call, Trace
from detector.disk.atomic import new_text
from detector.disk.lines import key_of

MOST = 1000  # sets of calls that are told
LIMIT = 100 * MOST  # bytes of a file that is read
WAITS = 500  # hundredths of a second for another process that writes


class Certificate:
    """A file that tells of sets of calls. One that is damaged, or of another model, tells nothing.

    Args:
        path: of the file; its name and its folder's are those of what it is about.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._about = [path.parent.name, path.name]
        self.held = self._read()

    def add(self, sets: Collection[str]) -> None:
        """Beside what other processes have found out since; not what they have withdrawn."""
        self.held |= set(sets)
        with suppress(
            OSError, UserError
        ):  # where nothing can be written, a later sweep checks again
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _alone_in(self._path.parent):
                known = self._read() | set(sets)
                told = sorted(known)[:MOST]
                content = {"about": self._about, "held": told, "digest": self._digest(told)}
                new_text(self._path, json.dumps(content) + "\n", overwrite=True)
            self.held |= known

    def withdraw(self) -> None:
        self.held = set()
        with suppress(OSError), _alone_in(self._path.parent):
            self._path.unlink(missing_ok=True)  # where it stays, it is found wrong again

    def _read(self) -> set[str]:
        if not self._path.is_file():  # a pipe would be waited for
            return set()
        try:
            with self._path.open("rb") as file:
                told = json.loads(file.read(LIMIT))
            held = told["held"]
            if told["about"] == self._about and told["digest"] == self._digest(held):
                return {str(one) for one in held}
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            pass
        return set()

    def _digest(self, held: object) -> str:
        return key_of(json.dumps([self._about, held]))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Who reads and then writes in ``folder`` does so without others between; for a moment.

    The lock is one of the system's, of the folder itself, and ends with the process. One that is
    stopped while it has the lock is not waited for, and neither is one where there are no locks: an
    entry may then be lost, which a later sweep finds out again.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(WAITS):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
            else:
                break
        yield
    finally:
        os.close(fd)


def replaced(trace: Trace, tick: float) -> str:
    """The digest of the calls that a pass does not run which follows ``trace`` up to ``tick``;
    empty: it runs them all."""
    found = sorted(_replaced(trace, trace.root, tick))
    if not found:
        return ""
    return key_of(json.dumps(found))


def _replaced(trace: Trace, call: Call, tick: float) -> Iterator[CallId]:
    for child in call.children:
        if child.start >= tick:
            return
        if child.end < tick and trace.outputs.get(child.id):
            yield child.id
        else:
            yield from _replaced(trace, child, tick)


def entrances(call: Call, tick: float) -> Iterator[float]:
    """When the calls began that were under way at ``tick``: what a later sweep lacks begins there,
    where it needs more of a pass than was kept."""
    for child in call.children:
        if child.start <= tick < child.end:
            yield child.start
            yield from entrances(child, tick)
            return

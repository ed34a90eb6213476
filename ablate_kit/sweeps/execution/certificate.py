"""Which passes that went on from recordings were held against full ones, for later processes.

What a recorded call left on its module, beside what it returned, is not in a recording. Whether
anything reads it depends on which calls are replaced and which run: so a check speaks for one set
of replaced calls, of a model with these weights in this environment.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from ablate_kit.errors import UserError
from ablate_kit.sweeps.execution.identities import CallId
from ablate_kit.sweeps.execution.trace import Call, Trace
from detector.disk.atomic import new_text

MOST = 1000  # sets of calls that are told
LIMIT = 100 * MOST  # bytes of a file that is read


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
        """Beside what other processes have found out since."""
        self.held |= self._read() | set(sets)
        told = sorted(self.held)[:MOST]
        with suppress(
            OSError, UserError
        ):  # where nothing can be written, a later sweep checks again
            self._path.parent.mkdir(parents=True, exist_ok=True)
            content = {"about": self._about, "held": told, "digest": self._digest(told)}
            new_text(self._path, json.dumps(content) + "\n", overwrite=True)

    def withdraw(self) -> None:
        self.held = set()
        with suppress(OSError):  # where it stays, what it tells is found wrong again
            self._path.unlink(missing_ok=True)

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
        return hashlib.sha256(json.dumps([self._about, held]).encode()).hexdigest()


def replaced(trace: Trace, tick: float) -> str:
    """The digest of the calls that a pass does not run which follows ``trace`` up to ``tick``;
    empty: it runs them all."""
    found = sorted(_replaced(trace, trace.root, tick))
    if not found:
        return ""
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:32]


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

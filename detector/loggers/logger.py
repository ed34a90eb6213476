"""What every logger offers, and under which name it knows a run: that is kept in the run's folder,
so that it can be resumed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from detector.disk.atomic import new_text
from detector.disk.bounded import SETTINGS, read_bounded

Cell = str | float | None
FILE = "loggers.json"


class Logger(Protocol):
    """Takes the numbers of one run; made by ``open_loggers``."""

    def scalars(self, values: Mapping[str, float], at: int, axis: str) -> None:
        """Numbers by name, ``at`` a place of an axis: step, epoch or variant."""

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table; None is no value."""

    def close(self) -> None:
        """The run has ended, or was stopped; nothing is logged after it."""


def identity(folder: Path, logger: str, make: Callable[[], str], *, resumed: bool) -> str:
    """The name that the folder keeps for a logger; a new one where none is, or the run is new."""
    path = folder / FILE
    kept = _read(path)
    if not (resumed and logger in kept):
        kept[logger] = make()
        new_text(path, json.dumps(kept) + "\n", overwrite=True)
    return kept[logger]


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        found = json.loads(read_bounded(path, SETTINGS))
    except ValueError:  # written by another program; the run gets a new name
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

"""Under which name a logger knows a run, kept in the run's folder, so that it can be resumed."""

import json
from collections.abc import Callable
from pathlib import Path

from detector.disk.atomic import new_text
from detector.disk.bounded import SETTINGS, read_bounded

FILE = "loggers.json"


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

"""Mistakes that take no time to find are told before anything is imported that takes seconds."""

from pathlib import Path

from ablate_kit.checkpoints.source import FileSource

_NAMES = ("hf:", "builtin:")


def check_there(*checkpoints: Path) -> None:
    """Raises ``UserError``, with the nearest name, for a path at which nothing is."""
    for path in checkpoints:
        if not str(path).startswith(_NAMES) and not path.exists():
            FileSource(path).close()

"""``ablate cache``: what sweeps have kept of unmodified models for later ones."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ablate_kit.cli.output import say, say_lines
from ablate_kit.errors import UserError
from ablate_kit.plural import counted


def cache(
    folder: Annotated[Path, Argument(help="As given to ablate sweep --cache.")],
    clear: Annotated[bool, Option("--clear", help="Remove all of it.")] = False,
) -> None:
    """Show what a folder of recordings holds, or clear it."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    from datetime import datetime
    from itertools import groupby

    from ablate_kit.reports.table import Table
    from ablate_kit.sweeps.execution.recording_cache import PREPARED, RecordingCache

    kept = RecordingCache(folder)
    kept.check()
    prepared = sum(one.path.parent.name == PREPARED for one in kept.entries())
    also = f" and {counted(prepared, 'batch', 'batches')} of prepared images" if prepared else ""
    if clear:
        count, nbytes = kept.clear()
        say(f"{folder}: {count - prepared} recordings{also} removed, {nbytes / 1e6:,.2f} MB")
        return
    entries = sorted(kept.entries(), key=lambda one: (one.path.parent.name, one.used))
    total = sum(one.nbytes for one in entries)
    if entries:
        rows = []
        for environment, group in groupby(entries, key=lambda one: one.path.parent.name):
            those = list(group)
            used = datetime.fromtimestamp(those[-1].used).strftime("%Y-%m-%d %H:%M")
            size = f"{sum(one.nbytes for one in those) / 1e6:,.2f}"
            rows.append((environment, f"{len(those):,}", size, used))
        header = ("model and environment", "batches", "MB", "last used")
        say_lines(Table("", header, tuple(rows), header[:1]).text())
    recordings = f"{len(entries) - prepared} recordings of batches of images{also}"
    say(f"{recordings}, {total / 1e6:,.2f} MB in {folder}")

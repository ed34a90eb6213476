"""The report of a replication, as files in one folder."""

from collections.abc import Sequence
from pathlib import Path

from ablate_kit import text as safe
from ablate_kit.plural import counted
from ablate_kit.reports.html import render, saved_picture
from ablate_kit.reports.records import write_records
from ablate_kit.reports.replication_reports.replication_figure import replication_figure
from ablate_kit.reports.replication_reports.replication_table import (
    changes_in_each,
    cuts_records,
    replication_table,
)
from ablate_kit.reports.replication_reports.replication_words import replication_sentences
from ablate_kit.sweeps.replications.replication import Replication
from detector.disk.atomic import new_folder


def write_replication(place: Path, found: Replication, command: str, notes: Sequence[str]) -> None:
    """Writes a folder, anew and whole: ``report.html``, ``sentences.md``, the table of AP
    (``table.csv``, ``.md``, ``.tex``), ``cuts.csv`` and ``changes.csv`` with every metric at full
    precision, and ``replication.png`` and ``.svg``."""
    table, sentences = replication_table(found), replication_sentences(found)
    with new_folder(place, overwrite=True) as folder:
        (folder / "table.md").write_text(table.markdown(), encoding="utf-8")
        (folder / "table.csv").write_text(table.csv(), encoding="utf-8")
        (folder / "table.tex").write_text(table.latex(), encoding="utf-8")
        bullets = "".join(f"* {safe.markdown(one)}\n" for one in sentences)
        (folder / "sentences.md").write_text(bullets, encoding="utf-8")
        write_records(folder / "cuts", cuts_records(found))
        write_records(folder / "changes", changes_in_each(found))
        caption = "What each cut changes in each checkpoint."
        picture = saved_picture(folder, "replication", caption, replication_figure(found))
        page = render(
            "tables.html",
            title=f"The same cuts in {counted(len(found.names), 'checkpoint')}",
            sentences=sentences,
            picture=picture.markup,
            caption=picture.caption,
            tables=[("All cuts", table.header, table.rows, table.heading)],
            notes=notes,
            command=command,
        )
        (folder / "report.html").write_text(page, encoding="utf-8")

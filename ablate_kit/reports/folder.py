"""Results as files in one folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ablate_kit.file_names import numbered
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import NOTHING, Comparison
from ablate_kit.reports.changes import write_changes
from ablate_kit.reports.comparison_figure import comparison_figure
from ablate_kit.reports.comparison_table import class_changes_table, comparison
from ablate_kit.reports.evaluation_tables import class_table
from ablate_kit.reports.paper_table import caption, paper_table
from ablate_kit.reports.results_file import UNKNOWN, Origin, results_document, results_text
from ablate_kit.reports.saved_figure import save_figure
from ablate_kit.reports.table import Table
from detector.disk.atomic import new_folder
from detector.errors import check_can_write


def write_numbers(
    place: Path,
    results: Sequence[Result],
    found: Comparison,
    origin: Origin,
    table: Table,
    called: Sequence[Result] | None = None,
) -> None:
    """``results.json`` with every number, and the ``table`` of them; for a paper a narrower one, of
    the same results ``called`` as sentences call them."""
    text = results_text(results_document(results, found, origin))
    (place / "results.json").write_text(text, encoding="utf-8")
    (place / "table.md").write_text(table.markdown(), encoding="utf-8")
    (place / "table.csv").write_text(table.csv(), encoding="utf-8")
    shown = called or results
    paper = paper_table(shown, found.changes, table.title)
    latex = paper.latex(caption(shown, found, paper.rows))
    (place / "table.tex").write_text(latex, encoding="utf-8")


def write_report(
    folder: Path,
    results: Sequence[Result],
    found: Comparison = NOTHING,
    origin: Origin = UNKNOWN,
    also: Callable[[Path], None] = lambda _: None,
) -> None:
    """``results.json`` with every number, ``table.md`` and ``table.csv`` with one row per variant,
    ``per_class/`` with a CSV and a LaTeX table per variant and, for several, ``changes.csv`` and
    ``classes.csv`` with every change at full precision (of two also ``classes.tex``) and
    ``figure.svg``, ``.png`` and ``.pdf``; and what ``also`` puts there. All or none."""
    check_can_write(folder)
    with new_folder(folder) as place:
        table = comparison(results, found.changes, statistics=found.statistics)
        write_numbers(place, results, found, origin, table)
        (place / "per_class").mkdir()
        for i, one in enumerate(results):
            classes = class_table(one.name, one.evaluation)
            path = place / "per_class" / numbered(i, one.name)
            for suffix, text in ((".csv", classes.csv()), (".tex", classes.latex())):
                path.with_name(path.name + suffix).write_text(text, encoding="utf-8")
        if found.changes:
            write_changes(place, results, found)
        if len(results) == 2 and found.classes:
            text = class_changes_table(results, found).latex()
            (place / "classes.tex").write_text(text, encoding="utf-8")
        if len(results) > 1:
            save_figure(comparison_figure(results, found.changes), place / "figure")
        also(place)

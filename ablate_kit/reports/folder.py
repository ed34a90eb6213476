"""Results as files in one folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ablate_kit import text as safe
from ablate_kit.errors import UserError
from ablate_kit.file_names import numbered
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.significance import Changes
from ablate_kit.reports import tables
from ablate_kit.reports.comparison_figure import comparison_figure
from detector.disk.atomic import new_folder


def check_free(folder: Path) -> None:
    """Raises ``UserError`` where a report would overwrite something."""
    if folder.exists():
        raise UserError(f"{folder} exists; choose another folder or remove it")


def write_report(
    folder: Path,
    results: Sequence[Result],
    also: Callable[[Path], None] = lambda _: None,
    *,
    changes: Sequence[Changes] = (),
    adjust: Adjust = "family",
) -> None:
    """``results.json`` with every number, ``table.md`` and ``table.csv`` with one row per variant,
    ``per_class/`` with one CSV per variant and, for several, ``figure.png``; and what
    ``also`` puts there. All or none."""
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as place:
        text = safe.to_json(as_dict(results, changes), 1) + "\n"
        (place / "results.json").write_text(text, encoding="utf-8")
        table = tables.comparison(results, changes, adjust=adjust)
        (place / "table.md").write_text(table.markdown(), encoding="utf-8")
        (place / "table.csv").write_text(table.csv(), encoding="utf-8")
        (place / "per_class").mkdir()
        for i, one in enumerate(results):
            csv = tables.class_table(one.name, one.evaluation).csv()
            (place / "per_class" / f"{numbered(i, one.name)}.csv").write_text(csv, encoding="utf-8")
        if len(results) > 1:
            comparison_figure(results, place / "figure.png")
        also(place)


def as_dict(
    results: Sequence[Result], changes: Sequence[Changes] = ()
) -> dict[str, dict[str, Any]]:
    """Every number, by variant; and the changes against the first, where there are any."""
    numbers = {
        one.name: {"kind": one.kind, "factors": dict(one.factors), **one.evaluation.to_dict()}
        for one in results
    }
    for one, change in zip(results[1:], changes, strict=False):
        numbers[one.name]["changes"] = {key: value.to_dict() for key, value in change.items()}
    return numbers

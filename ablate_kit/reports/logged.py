"""A report's numbers for loggers: those of a sweep, and of a study of retrained arms."""

import csv
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ablate_kit import text as safe
from ablate_kit.reports.table import Table
from detector.loggers.open_loggers import LoggerName, open_loggers

_OF_A_CHANGE = ("value", "change", "low", "high", "p_adjusted")


def log_sweep(names: Sequence[LoggerName], folder: Path) -> None:
    """Every metric of every variant by its number, and all changes as a table.

    Both are read from the report in the run's folder. Logged again, they replace what was logged.
    """
    if not names:
        return
    report = folder / "report"
    found = json.loads((report / "results.json").read_text(encoding="utf-8"))
    with closing(open_loggers(names, folder, found["run"], resumed_at=0)) as loggers:
        for number, variant in enumerate(found["variants"].values()):
            numbers = variant["overall"].items()
            loggers.scalars(
                {f"overall/{key}": value for key, value in numbers if value is not None},
                number,
                "variant",
            )
        header = ("number", "variant", "metric", *_OF_A_CHANGE, "verdict")
        order = {name: number for number, name in enumerate(found["variants"])}
        with (report / "changes.csv").open(encoding="utf-8", newline="") as file:
            rows = [
                [
                    float(order.get(one["variant"], -1)),
                    safe.line(one["variant"]),
                    one["metric"],
                    *(float(one[key]) if one[key] else None for key in _OF_A_CHANGE),
                    one["verdict"],
                ]
                for one in csv.DictReader(file)
            ]
        loggers.table("changes", header, rows)


def log_table(names: Sequence[LoggerName], folder: Path, name: str, table: Table) -> None:
    """A table as it is printed."""
    if not names:
        return
    with closing(open_loggers(names, folder, {}, resumed_at=0)) as loggers:
        loggers.table(name, list(table.header), [list(row) for row in table.rows])

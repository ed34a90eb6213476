"""The tables that a terminal shows of evaluations."""

from collections.abc import Sequence

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import NOTHING, Comparison
from ablate_kit.reports.comparison_table import class_changes_table, comparison
from ablate_kit.reports.evaluation_tables import class_table, coco_table, overall_table
from ablate_kit.reports.table import Table

_CLASSES = 20  # that are printed; all of them are in classes.csv


def for_terminal(
    results: Sequence[Result], found: Comparison = NOTHING, top: int | None = None
) -> list[Table]:
    """One result in full, or several side by side; of two the classes, too."""
    if len(results) == 1:
        name, evaluation = results[0].name, results[0].evaluation
        return [table(name, evaluation) for table in (coco_table, overall_table, class_table)]
    tables = [comparison(results, found.changes, statistics=found.statistics, top=top, brief=True)]
    if len(found.changes) == 1 and len(found.classes) > 1:
        tables.append(class_changes_table(results, found, _CLASSES))
    return tables

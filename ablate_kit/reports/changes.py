"""Every change as a row of numbers: what another program reads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ablate_kit.metrics.factor_columns import factor_columns
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.significance import COLUMNS, NUMBERS
from ablate_kit.reports.records import Records, write_records


def write_changes(
    place: Path,
    results: Sequence[Result],
    found: Comparison,
    names: Mapping[str, str] | None = None,
) -> None:
    """``changes`` and ``classes`` as CSV, and as Parquet where pyarrow is installed.

    ``names``: what sentences call variants, a column of its own where there are some.
    """
    told = results
    if names:
        told = [
            replace(one, factors={"called": names.get(one.name, one.name), **one.factors})
            for one in results
        ]
    write_records(place / "changes", changes_records(told, found))
    write_records(place / "classes", classes_records(results, found))


def changes_records(results: Sequence[Result], found: Comparison) -> Records:
    """A row per variant and metric, with the variant's factors; no two columns of one name."""
    header = ("variant", "kind", "control", "metric", "images", *COLUMNS)
    columns = {
        f"factor_{name}" if name in header else name: values
        for name, values in factor_columns(results[1:]).items()
    }
    factors = list(zip(*columns.values(), strict=True)) or [()] * len(found.changes)
    rows = [
        [
            one.name,
            one.kind,
            int(one.is_control),
            key,
            one.images,
            *change[key].to_dict().values(),
            *own,
        ]
        for one, change, own in zip(results[1:], found.changes, factors, strict=True)
        for key in change
    ]
    return Records((*header, *columns), rows)


def classes_records(results: Sequence[Result], found: Comparison) -> Records:
    """A row per variant and class that has objects: the change of its AP."""
    rows = [
        [result.name, name, *(getattr(change, column) for column in NUMBERS)]
        for result, by_class in zip(results[1:], found.by_class, strict=True)
        for name, change in zip(found.classes, by_class, strict=True)
        if change.change is not None
    ]
    return Records(("variant", "class", *NUMBERS), rows)

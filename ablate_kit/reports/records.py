"""Rows of full-precision numbers, as CSV and, where pyarrow is installed, as Parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate_kit import text as safe


@dataclass(frozen=True)
class Records:
    """Rows under a header; None is no value."""

    header: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        return safe.to_csv([self.header, *self.rows])


def write_records(stem: Path, records: Records) -> None:
    """``stem``.csv, and ``stem``.parquet where pyarrow is installed."""
    stem.with_suffix(".csv").write_text(records.csv(), encoding="utf-8")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    rows = (
        [safe.line(one) if isinstance(one, str) else one for one in row] for row in records.rows
    )
    values = list(zip(*rows, strict=True)) or [()] * len(records.header)
    columns = dict(zip(records.header, values, strict=True))
    # Arrow itself refuses names of files that are not Unicode.
    with stem.with_suffix(".parquet").open("wb") as file:
        pyarrow.parquet.write_table(pyarrow.table(columns), file)

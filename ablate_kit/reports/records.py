"""Rows of full-precision numbers, as CSV and, where pyarrow is installed, as Parquet."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Records:
    """Rows under a header; None is no value."""

    header: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()


def write_records(stem: Path, records: Records) -> None:
    """``stem``.csv, and ``stem``.parquet where pyarrow is installed."""
    stem.with_suffix(".csv").write_text(records.csv())
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return
    columns = dict(zip(records.header, zip(*records.rows, strict=True), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), stem.with_suffix(".parquet"))

"""A folder of images that a file describes: of JSON lines, as Parquet or CSV."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detector.data.conversion.hugging_face.tables import table_values
from detector.data.formats.fields import shown, stays_inside
from detector.disk.bounded import text_of
from detector.errors import UserError

METADATA = ("metadata.jsonl", "metadata.parquet", "metadata.csv")


def described_images(path: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where each line is, what it says, and the name of an image in the folder."""
    read = {".jsonl": _lines, ".parquet": table_values, ".csv": _cells}[path.suffix]
    for where, values in read(path):
        name = values.pop("file_name", None) if isinstance(values, dict) else None
        if not isinstance(name, str):
            raise UserError(f'{where}: expected an object with a "file_name"')
        if not stays_inside(name):
            raise UserError(f"{where}: {shown(name)} does not stay inside the folder")
        yield where, values, name


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for at, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{at}"
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON: {error}") from None


def _cells(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of CSV. A cell is text, or where it begins as a list or an object of JSON does, one."""
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if row.pop(None, None):
                raise UserError(f"{where}: more cells than the first line has names")
            yield where, {name: _cell(cell, name, where) for name, cell in row.items()}
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _cell(text: str | None, column: str, where: str) -> Any:
    if text and text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(
                f'{where}: "{column}" is {shown(text)}; expected JSON, such as '
                '{"bbox": [[1, 2, 10, 5]], "category": [0]}'
            ) from None
    return text or None

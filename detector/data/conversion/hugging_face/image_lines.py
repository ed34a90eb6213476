"""A folder of images that a file describes, of JSON lines or as Parquet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detector.data.conversion.hugging_face.tables import table_values
from detector.data.formats.fields import shown, stays_inside
from detector.disk.bounded import text_of
from detector.errors import UserError

METADATA = ("metadata.jsonl", "metadata.parquet")


def described_images(path: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where each line is, what it says, and the name of an image in the folder."""
    for where, values in _lines(path) if path.name == METADATA[0] else table_values(path):
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

"""JSON of a run's folder, read and checked."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ablate_kit.errors import UserError
from ablate_kit.text import first_line

Checked = TypeVar("Checked")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable as JSON: {first_line(error)}") from None


def checked(adapter: TypeAdapter[Checked], value: Any, where: str) -> Checked:
    try:
        return adapter.validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"{where}{f', {place}' if place else ''}: {what}") from None

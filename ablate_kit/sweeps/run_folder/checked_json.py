"""JSON of a run's folder: written whole, read up to a size, and checked."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ablate_kit.errors import UserError
from ablate_kit.text import first_line, to_json
from detector.disk.atomic import new_text
from detector.disk.bounded import read_bounded
from detector.disk.sealed import ChangedError, sealed, unsealed

Checked = TypeVar("Checked")
Value = TypeVar("Value", bound=BaseModel)


def read_json(path: Path) -> Any:
    """Without the digest of it, if it has one."""
    try:
        return unsealed(json.loads(read_bounded(path).decode("utf-8")))
    except ChangedError as error:
        raise UserError(f"{path}: {error}") from None
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


def keep_value(path: Path, value: BaseModel) -> None:
    new_text(path, f"{to_json(sealed(value.model_dump()), 1)}\n", overwrite=True)


def kept_value(path: Path, kind: type[Value], lacks: str) -> Value | None:
    """None where there is no such file.

    Raises ``UserError`` where it is no such thing; ``lacks``: what it does not do then.
    """
    if not path.exists():
        return None
    try:
        told = unsealed(json.loads(read_bounded(path)))
        return kind.model_validate_json(json.dumps(told), strict=True)
    except ChangedError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} does not {lacks}") from None

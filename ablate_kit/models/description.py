"""The files beside a checkpoint that say what its model is. They are read, and not run."""

import ast
from collections.abc import Iterator
from pathlib import Path

from detector.disk.bounded import SETTINGS, read_bounded


def description_files(model: str | None) -> list[Path]:
    """The files that ``--model`` names: a Hugging Face folder's configuration and code, or a
    configuration of MMDetection and those that it is based on."""
    framework, _, place = (model or "").partition(":")
    path = Path(place)
    if framework == "transformers" and place and path.is_dir():
        files = sorted(path.iterdir())
        return [one for one in files if one.suffix in (".json", ".py") and one.is_file()]
    if framework == "mmdet" and place:
        found: dict[Path, None] = {}
        _follow(path, found)
        return list(found)
    return []


def _follow(path: Path, found: dict[Path, None]) -> None:
    if path.resolve() in found or not path.is_file():
        return
    found[path.resolve()] = None
    for base in _bases(path):
        _follow(base, found)


def _bases(path: Path) -> Iterator[Path]:
    """What ``_base_`` names, and what is imported with MMEngine's ``read_base``."""
    try:
        tree = ast.parse(read_bounded(path, SETTINGS))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Assign([ast.Name("_base_")], value):
                for one in ast.walk(value):
                    if isinstance(one, ast.Constant) and isinstance(one.value, str):
                        yield path.parent / one.value
            case ast.ImportFrom(module=str(module), level=level) if level:
                folder = path.resolve().parents[min(level, len(path.resolve().parents)) - 1]
                yield folder.joinpath(*module.split(".")).with_suffix(".py")

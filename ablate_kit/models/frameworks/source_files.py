"""The files beside a program that it is made of. They are read, and not run."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ablate_kit.errors import UserError
from detector.disk.bounded import SETTINGS, read_bounded

_COMPUTED = (ast.JoinedStr, ast.BinOp, ast.Call)
_NO_FILE = re.compile(r"::|[{}]")

Next = Callable[[Path, ast.AST], Iterator[Path]]


def configurations(path: Path) -> list[Path]:
    """A configuration of MMDetection, and those that it is based on."""
    return _followed(path, _bases)


def check_configurations(path: Path) -> None:
    """Raises ``UserError`` where the configuration, or one that it is based on, is not there."""
    if not path.is_file():
        raise UserError(f"{path}: no such configuration")
    for one in configurations(path):
        for node in _nodes(one):
            computed = any(isinstance(part, _COMPUTED) for part in ast.walk(node))
            for base in () if computed else _bases(one, node):
                if not _may_be_there(base):
                    raise UserError(f"{one} is based on {base}, which is not there")


def _may_be_there(base: Path) -> bool:
    """Also what names no file, such as ``mmdet::detr/detr.py``, which is in a package."""
    there = base.exists() or base.with_suffix("").is_dir()
    return there or not base.suffix or bool(_NO_FILE.search(str(base)))


def python_files(path: Path) -> list[Path]:
    """A Python file, and those beside it that it imports."""
    folder = path.parent
    return _followed(path, lambda where, node: _imports(folder, where, node))


def _followed(path: Path, after: Next) -> list[Path]:
    found: dict[Path, None] = {}
    ahead = [path]
    while ahead:
        one = ahead.pop()
        if one.resolve() in found or not one.is_file():
            continue
        found[one.resolve()] = None
        # Depth first, in the order in which they are named.
        ahead += reversed([more for node in _nodes(one) for more in after(one, node)])
    return list(found)


def _nodes(path: Path) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(read_bounded(path, SETTINGS))))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return []


def _bases(path: Path, node: ast.AST) -> Iterator[Path]:
    """What ``_base_`` names, and what is imported with MMEngine's ``read_base``."""
    match node:
        case ast.Assign([ast.Name("_base_")], value):
            for one in ast.walk(value):
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    yield path.parent / one.value
        case ast.ImportFrom(module=str(module), level=level) if level:
            yield _up(path, level).joinpath(*module.split(".")).with_suffix(".py")


def _imports(folder: Path, path: Path, node: ast.AST) -> Iterator[Path]:
    """The files of ``import a.b`` and ``from a import b``, below ``folder`` or, with dots, from the
    file on."""
    match node:
        case ast.Import(names):
            for one in names:
                yield from _module(folder, one.name.split("."))
        case ast.ImportFrom(module, names, level):
            start = _up(path, level) if level else folder
            steps = module.split(".") if module else []
            yield from _module(start, steps)
            for one in names:
                yield from _module(start, [*steps, one.name])


def _module(start: Path, steps: list[str]) -> Iterator[Path]:
    for end in range(1, len(steps) + 1):
        place = start.joinpath(*steps[:end])
        yield place / "__init__.py"
        yield place.with_name(f"{place.name}.py")


def _up(path: Path, level: int) -> Path:
    parents = path.resolve().parents
    return parents[min(level, len(parents)) - 1]

"""What inputs are called in tables and reports: one rule for every command."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ablate_kit.checkpoints.hub import hub_id, is_hub_id
from ablate_kit.errors import UserError
from detector.zoo import BUILTIN

# A suffix says what a file is. ".0" of "heads.0" and ".5" of "v1.5" are parts of a name.
_SUFFIX = re.compile(r"\.[A-Za-z]\w*")
_PACKED = (".gz",)


def name_of(path: Path) -> str:
    """A file's name without its suffix, ``.json.gz`` being one; a folder's whole name; of what is
    shipped or on the hub its own."""
    if str(path).startswith(BUILTIN):
        return str(path).removeprefix(BUILTIN)
    if is_hub_id(path):
        return hub_id(path).name
    path = _absolute(path)
    name = path.name or str(path)
    if path.is_dir():
        return name
    if path.suffix in _PACKED:
        name = name.removesuffix(path.suffix)
    short = Path(name)
    return short.stem if _SUFFIX.fullmatch(short.suffix) else name


def names_of(paths: Iterable[Path], what: str) -> list[str]:
    """Short names, with as many folders before them as tell them apart.

    Raises:
        UserError: one of the inputs, which are called ``what``, is given twice.
    """
    as_given = list(paths)
    given = [_absolute(path) for path in as_given]
    twice = next((as_given[i] for i, path in enumerate(given) if path in given[:i]), None)
    if twice:
        raise UserError(f"{what} is given twice: {twice}")
    deepest = max(len(path.parts) for path in given)
    # run.json and run.npz of one folder keep their suffixes.
    for last in ([name_of(path) for path in as_given], [path.name for path in given]):
        for levels in range(deepest):
            before = [path.parts[max(1, len(path.parts) - 1 - levels) : -1] for path in given]
            found = ["/".join((*one, end)) for one, end in zip(before, last, strict=True)]
            if len(set(found)) == len(found):
                return found
    raise AssertionError("paths that differ have names that differ")


def names_of_two(
    first: Path, second: Path, weights: str | None, other_weights: str | None
) -> list[str]:
    """The same of two checkpoints; of two sets of weights in one file, such as raw and averaged
    ones, those of the sets."""
    if other_weights in (None, weights) or _absolute(first) != _absolute(second):
        return names_of([first, second], "a checkpoint")
    return [weights or name_of(first), str(other_weights)]


def _absolute(path: Path) -> Path:
    """Without what the file system says of it: a link keeps its name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links

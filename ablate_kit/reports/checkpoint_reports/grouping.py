"""Many tensor names as few patterns."""

import math
import re
from collections.abc import Iterable

from ablate_kit.ablations.name_patterns import spans


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """``names`` by a pattern that matches them: ``layers.{0-5}.attn.weight``.

    Names that differ in numbers only make one group where every combination of the numbers is
    there; otherwise each number of the first level that varies makes one of its own.
    """
    groups: dict[str, list[str]] = {}
    templates: dict[str, list[str]] = {}
    for name in names:
        templates.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", "#", name), []).append(name)
    for alike in templates.values():
        for pattern, members in _patterns(alike):
            groups.setdefault(pattern, []).extend(members)
    return groups


def _patterns(names: list[str]) -> list[tuple[str, list[str]]]:
    rows = [name.split(".") for name in names]
    columns = list(zip(*rows, strict=True))
    varying = [level for level, values in enumerate(columns) if len(set(values)) > 1]
    numbers = {level: set(map(int, columns[level])) for level in varying}
    if math.prod(map(len, numbers.values())) == len(names):
        levels = list(rows[0])
        for level, present in numbers.items():
            levels[level] = f"{{{spans(present)}}}"
        return [(".".join(levels), names)]
    split: dict[str, list[str]] = {}
    for name, row in zip(names, rows, strict=True):
        split.setdefault(row[varying[0]], []).append(name)
    return [pair for some in split.values() for pair in _patterns(some)]

"""What the numbers of a file of COCO results mean, where the file beside it says so.

``ablate predict`` numbers the images in the order given and the classes in the model's. Annotations
of the same images may well number both otherwise.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.disk.bounded import read_bounded

BESIDE = "images.json"
"""COCO's lists of images and categories, without annotations."""


@dataclass(frozen=True)
class NamedIds:
    """Names by number; none where no file says them."""

    images: Mapping[int, str]
    categories: Mapping[int, str]

    @staticmethod
    def beside(results: Path) -> "NamedIds":
        try:
            held = json.loads(read_bounded(results.parent / BESIDE))
        except (OSError, ValueError, RecursionError):
            held = None
        if not isinstance(held, dict):
            held = {}
        return NamedIds(
            _names(held.get("images"), "file_name"), _names(held.get("categories"), "name")
        )


def named(ids: NDArray[np.int64], names: Mapping[int, str]) -> list[str] | None:
    """The name of each; None where one has none, so that the names are not of these."""
    known, which = np.unique(ids, return_inverse=True)
    if not all(number in names for number in known.tolist()):
        return None
    each = [names[number] for number in known.tolist()]
    return [each[at] for at in which.tolist()]


def _names(rows: Any, key: str) -> dict[int, str]:
    if not isinstance(rows, list):
        return {}
    return {
        row["id"]: row[key]
        for row in rows
        if isinstance(row, dict) and type(row.get("id")) is int and isinstance(row.get(key), str)
    }

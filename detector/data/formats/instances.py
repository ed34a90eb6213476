"""A COCO annotation file, parsed: the one reader behind training, evaluation, scoring and checking.

Every field is parsed to its type or told as a problem. Who reads decides what becomes of problems:
by default the first ends it; ``ablate data check`` collects them, and what they are about is left
out.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

import numpy as np

from detector.data.dataset import Flags, Floats, Integers
from detector.data.formats.fields import (
    LARGEST,
    MOST_PIXELS,
    Difficult,
    Tell,
    check_difficult,
    mark,
    number,
    pixels,
    refuse,
    shown,
    whole,
)
from detector.disk.bounded import PACKED_ERRORS, read_bounded
from detector.errors import UserError

_PARTS = "an object with images, annotations and categories"
_MALFORMED = "malformed annotation"

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Instances:
    """The images, classes and objects of a COCO file; objects sorted by image, stably."""

    image_ids: Integers
    file_names: tuple[str, ...]  # "" where the file gives none
    widths: Integers  # pixels; 0 where the file gives none
    heights: Integers
    classes: tuple[str, ...]  # by ascending category id
    category_ids: tuple[int, ...]
    image: Integers  # (n,) index into the images, ascending
    labels: Integers  # (n,) index into the classes
    boxes: Floats  # (n, 4) x, y, width, height, as written
    areas: Floats  # (n,) as written, else width x height
    ignore: Flags  # (n,) crowds, and difficult objects that are to be ignored
    ids: Integers  # (n,) each once
    rows: Integers  # (n,) place in the file's list
    notes: tuple[str, ...]  # what is no mistake, but worth saying

    @property
    def corners(self) -> Floats:
        """(n, 4) the boxes as x1, y1, x2, y2."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)


def read_instances(
    path: Path, difficult: Difficult = "ignore", *, with_files: bool, tell: Tell = refuse
) -> Instances:
    """The parsed file, plain or gzipped.

    Args:
        difficult: what becomes of annotations that are marked as ``difficult``: ``ignore`` makes
            them like crowds, ``keep`` ordinary objects, ``drop`` leaves them out.
        with_files: whether the images will be opened: then each needs a size, and a file name
            that stays inside the folder of images.
        tell: is told each problem; what it is about is left out if ``tell`` returns.

    Raises:
        UserError: the file is no JSON object with the three lists, or lacks images or classes; and
            what ``tell`` raises.
    """
    check_difficult(difficult)
    document = read_document(path)
    images = _Records(document, "images", path, tell)
    image_ids = images.ids()
    file_names = images.column("file_name", _text, "", "text", optional=not with_files)
    side = f"1 to {MOST_PIXELS:,} pixels"
    widths, heights = (
        np.array(images.column(name, pixels, 0, side, optional=not with_files), dtype=np.int64)
        for name in ("width", "height")
    )
    if with_files:
        _check_inside(images, file_names)

    categories = _Records(document, "categories", path, tell)
    category_ids = categories.ids()
    names = categories.column("name", _name, "", "a name")

    objects = _Records(document, "annotations", path, tell)
    ids = objects.ids()
    owners = objects.references("image_id", images, image_ids, "image")
    labels = objects.references("category_id", categories, category_ids, "category")
    boxes = _boxes(objects)
    areas = objects.areas()
    crowd, marked = objects.marks("iscrowd"), objects.marks("difficult")

    believed = objects.good & images.good[owners] & categories.good[labels]
    used = np.bincount(labels[believed], minlength=len(names))
    classes, notes = _classes(categories, category_ids, names, used)
    believed &= categories.good[labels]
    kept = np.flatnonzero(believed & ~marked if difficult == "drop" else believed)
    kept = kept[np.argsort(owners[kept], kind="stable")]
    count = int((marked & believed).sum())
    if count:
        meaning = {"ignore": "ignored", "keep": "ordinary objects here", "drop": "left out"}
        notes += (f"{path}: {count:,} objects are marked as difficult: {meaning[difficult]}",)

    # From places in the file to places among what is left of it.
    chosen = np.flatnonzero(images.good)
    image_at, class_at = _inverse(chosen, len(images.good)), _inverse(classes, len(names))
    own = np.where(np.isnan(areas), boxes[:, 2] * boxes[:, 3], areas)
    ignore = crowd | marked if difficult == "ignore" else crowd
    return Instances(
        image_ids=image_ids[chosen],
        file_names=tuple(file_names[place] for place in chosen),
        widths=widths[chosen],
        heights=heights[chosen],
        classes=tuple(names[place] for place in classes),
        category_ids=tuple(category_ids[classes].tolist()),
        image=image_at[owners[kept]],
        labels=class_at[labels[kept]],
        boxes=boxes[kept],
        areas=own[kept],
        ignore=ignore[kept],
        ids=ids[kept],
        rows=kept,
        notes=notes,
    )


def read_document(path: Path) -> dict[str, Any]:
    """The object with the three lists in a JSON file, gzipped or not, byte order mark or not."""
    try:
        data = read_bounded(path, pipes=True, unpack=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except PACKED_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read: {reason}") from error
    if not data.strip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe"):
        raise UserError(f"{path}: the file is empty; expected {_PARTS}")
    try:
        document = json.loads(data)  # of bytes: it looks for the encoding and its mark itself
    except (ValueError, RecursionError) as error:
        if _is_lines(data):
            raise UserError(
                f"{path}: this is JSON lines, one object in each; expected {_PARTS}"
            ) from None
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict):
        what = "a list, as files of detections are" if isinstance(document, list) else "no object"
        raise UserError(f"{path}: expected {_PARTS}; this is {what}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            present = ", ".join(map(shown, document)) or "nothing"
            raise UserError(f'{path}: no list "{key}" in it; it holds {present}')
    return document


class _Records:
    """The records of one of the three lists, and which of them are believed so far."""

    def __init__(self, document: Mapping[str, Any], key: str, path: Path, tell: Tell) -> None:
        found = document[key]
        if not found and key != "annotations":
            raise UserError(f"{path}: no {key} in it")
        self.key, self.path, self._tell = key, path, tell
        self.good = np.ones(len(found), dtype=np.bool_)
        self.rows: list[dict[str, Any]] = found
        if not set(map(type, found)) <= {dict}:
            self.rows = [row if isinstance(row, dict) else {} for row in found]
            for place, row in enumerate(found):
                if not isinstance(row, dict):
                    self.reject(place, _MALFORMED, f"{self.key}[{place}] is not an object")

    def where(self, place: int) -> str:
        """Such as ``annotations[17] (id 18)``."""
        known = self.rows[place].get("id")
        suffix = f" (id {shown(known)})" if known is not None else ""
        return f"{self.key}[{place}]{suffix}"

    def reject(self, place: int, kind: str, message: str) -> None:
        self._tell(kind, f"{self.path}: {message}")
        self.good[place] = False

    def reject_value(self, place: int, field: str, expected: str, kind: str = _MALFORMED) -> None:
        row = self.rows[place]
        if not row:
            if self.good[place]:
                self.reject(place, kind, f"{self.key}[{place}] is empty")
            return
        found = "is missing" if row.get(field) is None else f"is {shown(row[field])}"
        self.reject(place, kind, f'"{field}" of {self.where(place)} {found}; expected {expected}')

    def column(
        self,
        field: str,
        parse: Callable[[object], T | None],
        fill: T,
        expected: str,
        *,
        optional: bool = False,
    ) -> list[T]:
        """A value of every record; ``fill`` where an optional one is missing, or one is bad."""
        values = []
        for place, row in enumerate(self.rows):
            found = row.get(field)
            value = parse(found)
            if value is None and not (found is None and optional):
                self.reject_value(place, field, expected)
            values.append(fill if value is None else value)
        return values

    def integers(self, field: str) -> Integers:
        values: list[Any] = [row.get(field) for row in self.rows]
        if set(map(type, values)) != {int} or not -(2**63) <= min(values) <= max(values) < 2**63:
            values = self.column(field, whole, 0, "a whole number of 64 bits")
        return np.array(values, dtype=np.int64)

    def ids(self) -> Integers:
        """The id of every record; each belongs to the first that has it."""
        found = self.integers("id")
        order = np.argsort(found, kind="stable")
        for place in np.sort(order[1:][found[order[1:]] == found[order[:-1]]]):
            if self.good[place]:
                self.reject(place, "duplicate", f"two {self.key} have the id {found[place]}")
        return found

    def references(self, field: str, others: "_Records", ids: Integers, what: str) -> Integers:
        """The place of the record of ``others`` that each record names."""
        named = self.integers(field)
        order = np.argsort(ids, kind="stable")
        places = order[np.minimum(np.searchsorted(ids, named, sorter=order), len(ids) - 1)]
        kind = "unknown class" if what == "category" else _MALFORMED
        for place in np.flatnonzero(ids[places] != named).tolist():
            if whole(self.rows[place].get(field)) is not None:  # else that was told
                problem = f"is {named[place]}, which no {what} has"
                self.reject(place, kind, f'"{field}" of {self.where(place)} {problem}')
        return places

    def areas(self) -> Floats:
        """NaN where there is none; none below zero, which evaluations leave out unsaid."""
        values = [row.get("area") for row in self.rows]
        if set(map(type, values)) <= {int, float}:
            try:
                column = np.array(values, dtype=np.float64)
            except OverflowError:
                column = np.array([np.nan])
            if ((column >= 0) & (column < LARGEST)).all():  # NaN is neither
                return column
        values = self.column("area", _area, np.nan, "square pixels", optional=True)
        return np.array(values, dtype=np.float64)

    def marks(self, field: str) -> Flags:
        values = [row.get(field, 0) for row in self.rows]
        if set(map(type, values)) != {int} or not set(values) <= {0, 1}:
            values = self.column(field, mark, False, "0 or 1")
        return np.array(values, dtype=np.bool_)


def _area(value: object) -> float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None


def _boxes(objects: _Records) -> Floats:
    found: list[Any] = [row.get("bbox") for row in objects.rows]
    if set(map(type, found)) <= {list} and set(map(len, found)) <= {4}:
        flat = list(chain.from_iterable(found))
        if set(map(type, flat)) <= {float} or _small_numbers(flat):
            boxes = np.array(flat, dtype=np.float64).reshape(-1, 4)
            if (np.abs(boxes) < LARGEST).all() and (boxes[:, 2:] >= 0).all():
                return boxes
    boxes = np.zeros((len(found), 4))
    for place, box in enumerate(found):
        four = isinstance(box, list) and len(box) == 4
        values = [one for one in map(number, box) if one is not None] if four else []
        if len(values) < 4 or min(values[2:]) < 0:
            kind = "degenerate box" if isinstance(box, list) else _MALFORMED
            objects.reject_value(place, "bbox", "[x, y, width, height] in pixels", kind)
        else:
            boxes[place] = values
    return boxes


def _small_numbers(values: list[Any]) -> bool:
    """Whether all are numbers that fit in a float64."""
    return set(map(type, values)) <= {int, float} and all(
        -(2**63) < value < 2**63 for value in values if type(value) is int
    )


def _check_inside(images: _Records, file_names: list[str]) -> None:
    """Tells of file names that lead out of the folder of images."""
    for place, name in enumerate(file_names):
        if not images.good[place]:
            continue
        # Windows rules know both separators and drive letters, so they refuse what either would.
        parts = PureWindowsPath(name)
        if not parts.name or parts.anchor or ".." in parts.parts or "\0" in name:
            problem = f"file_name {shown(name)} does not stay inside the image folder"
            if parts.name and "\0" not in name:
                problem += f"; expected a path from there on, such as {shown(parts.name)}"
            images.reject(place, _MALFORMED, problem)


def _classes(
    categories: _Records, ids: Integers, names: list[str], used: Integers
) -> tuple[Integers, tuple[str, ...]]:
    """The places of the categories that are classes, by ascending id, and notes.

    Exports may begin with a category for the whole project that has the name of a class and no
    object. Of categories with one name those without objects are left out: all but the last, where
    none has any.
    """
    places = np.argsort(ids, kind="stable")
    places = places[categories.good[places]]
    counts = Counter(names[place] for place in places)
    chosen: dict[str, int] = {}
    left_out = []
    for place in places:
        name = names[place]
        if counts[name] == 1 or name not in chosen:
            chosen[name] = place
        elif not used[chosen[name]]:
            left_out.append(chosen[name])
            chosen[name] = place
        elif not used[place]:
            left_out.append(place)
        else:
            problem = f"two categories with objects have the name {shown(name)}: ids "
            categories.reject(place, "duplicate", problem + f"{ids[chosen[name]]} and {ids[place]}")
    notes = tuple(
        f"{categories.path}: category {ids[place]} is left out: it has no objects, and the name of "
        f"another, {shown(names[place])}"
        for place in left_out
    )
    kept = [place for place in places if chosen[names[place]] == place]
    return np.array(kept, dtype=np.int64), notes


def _inverse(places: Integers, size: int) -> Integers:
    inverse = np.full(size, -1, dtype=np.int64)
    inverse[places] = np.arange(len(places))
    return inverse


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _name(value: object) -> str | None:
    """A class's name; a number is one as well, as its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def _is_lines(data: bytes) -> bool:
    """Whether a file that is no JSON has JSON objects in its first lines."""
    lines = [line for line in data[: 1 << 20].split(b"\n", 4)[:3] if line.strip()][:2]
    try:
        return len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines)
    except (ValueError, RecursionError):
        return False

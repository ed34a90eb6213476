"""A COCO annotation file, parsed: the one reader behind training, evaluation, scoring and checking.

Every field is parsed to its type or told as a problem. Who reads decides what becomes of problems:
by default the first ends it; ``ablate data check`` collects them, and what they are about is left
out.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from detector.data.dataset import Flags, Floats, Integers
from detector.data.formats.fields import (
    LARGEST,
    MOST_PIXELS,
    Difficult,
    Tell,
    check_difficult,
    number,
    pixels,
    refuse,
    shown,
    stays_inside,
)
from detector.data.formats.records import MALFORMED, Records
from detector.disk.bounded import PACKED_ERRORS, read_bounded
from detector.errors import UserError

# Of how many boxes which share must leave their image, and fit into it as two corners, so that no
# boxes of objects as large as their images are meant; and pixels by which a file may round.
_FEWEST, _AGAINST, _FITTING, _SLACK = 20, 0.3, 0.98, 2.0

_PARTS = "an object with images, annotations and categories"
_FROM_ROWS = ", which ablate data huggingface FOLDER makes of a Hugging Face data set"


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

    Raises:
        UserError: the file is no JSON object with the three lists; its boxes are evidently two
            corners; and as ``instances_in``.
    """
    found = instances_in(read_document(path), path, difficult, with_files=with_files, tell=tell)
    _check_sizes(found, path, tell)
    return found


def instances_in(
    document: Mapping[str, Any],
    path: Path,
    difficult: Difficult = "ignore",
    *,
    with_files: bool,
    tell: Tell = refuse,
) -> Instances:
    """What is in a document with the three lists.

    Args:
        path: of what it comes from, for messages.
        difficult: what becomes of annotations that are marked as ``difficult``: ``ignore`` makes
            them like crowds, ``keep`` ordinary objects, ``drop`` leaves them out.
        with_files: whether the images will be opened: then each needs a size, and a file name
            that stays inside the folder of images.
        tell: is told each problem; what it is about is left out if ``tell`` returns.

    Raises:
        UserError: it lacks images or classes; and what ``tell`` raises.
    """
    check_difficult(difficult)
    images = Records(document, "images", path, tell)
    image_ids = images.ids()
    file_names = images.column("file_name", _text, "", "text", optional=not with_files)
    side = f"1 to {MOST_PIXELS:,} pixels"
    widths, heights = (
        np.array(images.column(name, pixels, 0, side, optional=not with_files), dtype=np.int64)
        for name in ("width", "height")
    )
    if with_files:
        _check_inside(images, file_names)

    categories = Records(document, "categories", path, tell)
    category_ids = categories.ids()
    names = categories.column("name", _name, "", "a name")

    objects = Records(document, "annotations", path, tell)
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
                f"{path}: this is JSON lines, one object in each; expected {_PARTS}{_FROM_ROWS}"
            ) from None
        if data.startswith(b"PAR1"):
            raise UserError(f"{path}: this is Parquet; expected {_PARTS}{_FROM_ROWS}") from None
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict):
        what = "a list, as files of detections are" if isinstance(document, list) else "no object"
        raise UserError(f"{path}: expected {_PARTS}; this is {what}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            present = ", ".join(map(shown, document)) or "nothing"
            raise UserError(f'{path}: no list "{key}" in it; it holds {present}')
    return document


def _boxes(objects: Records) -> Floats:
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
            kind = "degenerate box" if isinstance(box, list) else MALFORMED
            objects.reject_value(place, "bbox", "[x, y, width, height] in pixels", kind)
        else:
            boxes[place] = values
    return boxes


def _check_sizes(found: Instances, path: Path, tell: Tell) -> None:
    """Tells of boxes that are evidently x1, y1, x2, y2: many leave their image as they are to be
    read, and hardly any does as two corners."""
    side = np.stack([found.widths, found.heights], axis=1)[found.image].astype(np.float64)
    sized = (side > 0).all(axis=1)
    first, second, side = found.boxes[sized, :2], found.boxes[sized, 2:], side[sized]
    if len(side) < _FEWEST:
        return
    leaving = (first + second > side + _SLACK).any(axis=1).mean()
    fitting = ((second >= first) & (second <= side + _SLACK)).all(axis=1).mean()
    if leaving > _AGAINST and fitting > _FITTING:
        tell(
            MALFORMED,
            f"{path}: the boxes look like x1, y1, x2, y2: as x, y, width, height, which COCO has, "
            f"{leaving:.0%} of them would leave their image",
        )


def _small_numbers(values: list[Any]) -> bool:
    """Whether all are numbers that fit in a float64."""
    return set(map(type, values)) <= {int, float} and all(
        -(2**63) < value < 2**63 for value in values if type(value) is int
    )


def _check_inside(images: Records, file_names: list[str]) -> None:
    """Tells of file names that lead out of the folder of images."""
    for place, name in enumerate(file_names):
        if images.good[place] and not stays_inside(name):
            problem = f"file_name {shown(name)} does not stay inside the image folder"
            last = PureWindowsPath(name).name
            if last and "\0" not in name:
                problem += f"; expected a path from there on, such as {shown(last)}"
            images.reject(place, MALFORMED, problem)


def _classes(
    categories: Records, ids: Integers, names: list[str], used: Integers
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

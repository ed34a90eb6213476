"""A split of a Hugging Face data set as COCO files."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.conversion.hugging_face.split import Split
from detector.data.conversion.hugging_face.tables import Row
from detector.data.conversion.write import is_plain
from detector.data.formats.fields import number, shown, whole
from detector.data.formats.instances import Instances, instances_in
from detector.data.image_files import SUFFIXES, stored_size
from detector.errors import UserError

_BOXES = ("bbox", "bboxes", "boxes")
_CATEGORIES = (
    "category", "categories", "category_id", "category_ids", "label", "labels", "class", "classes",
)  # fmt: skip
_OTHERS = {"area": ("area", "areas"), "iscrowd": ("iscrowd", "is_crowd")}


@dataclass(frozen=True)
class Written:
    """What was written."""

    images: int
    objects: int
    oriented: bool  # whether an image has an EXIF orientation, which the boxes are taken to follow
    notes: Sequence[str]


def write_coco(
    split: Split,
    place: Path,
    *,
    classes: Sequence[str] = (),
    corners: bool | None = None,
    most: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Written:
    """Writes ``instances.json`` and ``images`` into an empty folder; bytes of images stay.

    Args:
        classes: what the numbers of categories are called, where the data set does not say it.
        corners: boxes are x1, y1, x2, y2, or else x, y, width, height; None: the latter, unless
            they look like the former.
        most: as many of the first images.
        advance: is told of every image.

    Raises:
        UserError: what cannot be read, is no data set of objects, or seems to have other boxes.
    """
    (place / "images").mkdir()
    images = _Images(place / "images")
    for row in islice(split.rows(), most):
        images.take(row)
        advance()
    if not images.rows:
        raise UserError(f"{split.folder}: no images in this split")
    layout, listed = images.layout(), images.listed()
    objects: list[dict[str, Any]] = []
    for one, (where, values) in zip(listed, images.rows, strict=True):
        for own in layout.objects(where, values):
            own |= {"id": len(objects) + 1, "image_id": one["id"]}
            if corners:
                own["bbox"] = _turned(own["bbox"], where)
            objects.append(own)
    document = {
        "images": listed,
        "annotations": objects,
        "categories": _categories(split, layout, objects, classes),
    }
    found = instances_in(document, split.folder, with_files=True)
    notes = [*found.notes, *_looked_at(found, split.folder, told=corners is not None)]
    (place / "instances.json").write_text(json.dumps(document), encoding="utf-8")
    return Written(len(listed), len(objects), images.oriented, notes)


@dataclass(frozen=True)
class _Layout:
    """Where objects are: in a column, or beside each other in the row."""

    column: str | None
    # boxes, categories: what an object's are called.
    boxes: str
    categories: str

    def objects(self, where: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Those of a row, each as COCO names its parts."""
        found = values if self.column is None else values.get(self.column)
        if isinstance(found, Mapping):
            found = self._apart(where, found)
        if not isinstance(found or [], list):
            raise UserError(f'{where}: "{self.column}" is {shown(found)}; expected objects')
        objects = []
        for one in found or []:
            if not isinstance(one, Mapping):
                raise UserError(f'{where}: "{self.column}" holds {shown(one)}; expected an object')
            own = {"bbox": one.get(self.boxes), "category": one.get(self.categories)}
            for name, keys in _OTHERS.items():
                key = _key(one, keys)
                if key and one[key] is not None:
                    own[name] = one[key]
            objects.append(own)
        return objects

    def _apart(self, where: str, lists: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Objects whose parts are lists, as long as there are objects."""
        others = (_key(lists, keys) for keys in _OTHERS.values())
        known = [self.boxes, self.categories, *filter(None, others)]
        parts = {key: lists[key] for key in known if lists.get(key) is not None}
        for key, value in parts.items():
            if not isinstance(value, list):
                raise UserError(f'{where}: "{key}" is {shown(value)}; expected a list')
        counts = {key: len(value) for key, value in parts.items()}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} of {key}" for key, count in counts.items())
            raise UserError(f"{where}: lists of several lengths: {told}")
        columns = zip(*parts.values(), strict=True)
        return [dict(zip(parts, column, strict=True)) for column in columns]


@dataclass
class _Images:
    """Images, written as they come, and what their rows say."""

    place: Path
    sides: list[dict[str, Any]] = field(default_factory=list)
    rows: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    oriented: bool = False
    _names: set[str] = field(default_factory=set)

    def take(self, row: Row) -> None:
        width, height, orientation, suffix = stored_size(row.image, row.where)
        self.oriented |= orientation > 1
        name = self._name(Path(row.name), suffix)
        (self.place / name).write_bytes(row.image)
        self.sides.append({"file_name": name, "width": width, "height": height})
        self.rows.append((row.where, row.values))

    def _name(self, own: Path, suffix: str) -> str:
        """Its own where every format reads it and no other image has it, else its number."""
        number = Path(f"{len(self.rows):012d}{suffix}")
        if not is_plain(own.stem) or own.suffix.lower() not in SUFFIXES:
            own = number
        while own.stem.casefold() in self._names:
            own = number.with_stem(f"{own.stem}-{number.stem}")
        self._names.add(own.stem.casefold())
        return own.name

    def listed(self) -> list[dict[str, Any]]:
        """With the ids that the rows give, or their numbers where those are not ids of images."""
        ids = [whole(values.get("image_id")) for _, values in self.rows]
        if None in ids or len(set(ids)) < len(ids):
            ids = list(range(len(ids)))
        return [{"id": key, **one} for key, one in zip(ids, self.sides, strict=True)]

    def layout(self) -> _Layout:
        """By the first row that has objects."""
        for _, values in self.rows:
            for column, value in [(None, values), *values.items()]:
                first = value[0] if isinstance(value, list) and value else value
                if not isinstance(first, Mapping):
                    continue
                boxes, categories = _key(first, _BOXES), _key(first, _CATEGORIES)
                if boxes and categories:
                    return _Layout(column, boxes, categories)
        where, values = self.rows[0]
        raise UserError(
            f"{where}: no objects in its columns ({', '.join(values)}), nor in other rows; "
            "expected objects with bbox and category"
        )


def _key(names: Mapping[str, Any], known: Sequence[str]) -> str | None:
    return next((name for name in known if name in names), None)


def _turned(box: object, where: str) -> object:
    """Corners as x, y, width, height; anything else as it is, for the reader to refuse."""
    if isinstance(box, list) and len(box) == 4:
        left, top, right, bottom = map(number, box)
        if None not in (left, top, right, bottom):
            width, height = right - left, bottom - top  # type: ignore[operator]
            if min(width, height) < 0:
                raise UserError(
                    f"{where}: the second corner of the box {shown(box)} is before the first; "
                    "with --sizes boxes are x, y, width, height"
                )
            return [left, top, width, height]
    return box


def _categories(
    split: Split, layout: _Layout, objects: Sequence[dict[str, Any]], given: Sequence[str]
) -> list[dict[str, Any]]:
    """The classes; each object's category becomes its category id."""
    written = [one.pop("category") for one in objects]
    if any(isinstance(one, str) for one in written):
        if given:
            raise UserError("class names are given, and categories have names already")
        # Of all splits, so that every one has the same classes.
        rows = split.values_of_all()
        found = (one["category"] for row in rows for one in layout.objects(*row))
        names = sorted({one for one in found if isinstance(one, str)})
        ids: Sequence[Any] = [names.index(one) if isinstance(one, str) else None for one in written]
    else:
        column = [layout.column] if layout.column else []
        names = list(given or split.class_names(*column, layout.categories))
        ids = written
    if not names:
        raise UserError(
            f"{split.folder}: categories are numbers, and nothing says what they are called: give "
            "--class-names FILE, one name to a line, in the order of the numbers from 0 on"
        )
    for one, key in zip(objects, ids, strict=True):
        one["category_id"] = key
    return [{"id": key, "name": name} for key, name in enumerate(names)]


def _looked_at(found: Instances, where: Path, *, told: bool) -> list[str]:
    """Notes on boxes; ``UserError`` where they look as if they were written in another way, and
    nobody ``told`` in which."""
    if not len(found.boxes):
        return []
    widths, heights = found.widths[found.image], found.heights[found.image]
    room = np.stack([widths, heights], axis=1) + 1.0
    first, second = found.boxes[:, :2], found.boxes[:, 2:]
    outside = ((found.corners[:, 2:] > room) | (first < -1)).any(axis=1)
    if found.corners.max() <= 2 and min(widths.min(), heights.min()) > 2:
        raise UserError(f"{where}: boxes are shares of the images' sides; expected pixels")
    count = int(np.count_nonzero(outside))
    if count and not told and ((second >= first) & (second <= room)).all():
        raise UserError(
            f"{where}: {count:,} of {len(found.boxes):,} boxes leave their image as x, y, width, "
            "height, and none does as two corners: give --corners, or --sizes where they are none"
        )
    return [f"boxes leave their image by more than a pixel ({count:,})"] if count else []

"""COCO: an ``instances_*.json`` file and a folder of images."""

import gzip
import json
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from detector.data.dataset import Annotations, Pixels, box_areas, read_image, stored_image
from detector.errors import UserError

_Record = dict[str, Any]
_ById = dict[int, _Record]

_GZIP = b"\x1f\x8b"

_IMAGE: dict[str, type] = {"id": int, "file_name": str, "width": int, "height": int}
FIELDS: dict[str, dict[str, type]] = {
    "images": _IMAGE,
    "categories": {"id": int, "name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
}


class Coco:
    """The images of a COCO annotation file, in its order.

    ``annotation_file`` is JSON, plain or gzipped. Classes are the categories by ascending id,
    also those without an object. ``iscrowd`` becomes ``ignore``. Boxes are as written, not
    clipped to the image. ``keep_ids`` restricts the data set to the images with these ids; an
    image without annotations is an image like any other.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_folder: str | Path,
        keep_ids: Collection[int] | None = None,
    ) -> None:
        path = Path(annotation_file)
        self._folder = Path(image_folder)
        if not self._folder.is_dir():
            raise UserError(f"{self._folder}: no such folder; expected the images of {path}")
        categories, images, annotations = _load(path)
        self.category_ids = tuple(sorted(categories))
        self.classes = tuple(categories[number]["name"] for number in self.category_ids)
        self._images = _kept(images, keep_ids, path)

        # Sorted by image, stably: the objects of an image are then one slice, in the file's order.
        position = {image["id"]: place for place, image in enumerate(self._images)}
        annotations = [one for one in annotations if one["image_id"] in position]
        annotations.sort(key=lambda annotation: position[annotation["image_id"]])
        owners = [position[annotation["image_id"]] for annotation in annotations]
        self._starts = np.searchsorted(owners, np.arange(len(self._images) + 1))

        label = {number: place for place, number in enumerate(self.category_ids)}
        self._labels = np.array([label[one["category_id"]] for one in annotations], dtype=np.int64)
        self._ids = np.array([one["id"] for one in annotations], dtype=np.int64)
        self._ignore = np.array([one.get("iscrowd", 0) for one in annotations], dtype=np.bool_)
        boxes = np.array([one["bbox"] for one in annotations], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        self._boxes = boxes
        own = np.array([one.get("area", np.nan) for one in annotations], dtype=np.float64)
        self._areas = np.where(np.isnan(own), box_areas(boxes), own)

    def __len__(self) -> int:
        return len(self._images)

    def annotations(self, index: int) -> Annotations:
        image = self._images[index]
        index %= len(self._images)
        own = slice(self._starts[index], self._starts[index + 1])
        return Annotations(
            image_id=image["id"],
            file_name=image["file_name"],
            width=image["width"],
            height=image["height"],
            boxes=self._boxes[own],
            labels=self._labels[own],
            ignore=self._ignore[own],
            areas=self._areas[own],
            ids=self._ids[own],
        )

    def image(self, index: int) -> Pixels:
        image = self._images[index]
        return read_image(self._folder / image["file_name"], image["width"], image["height"])

    def stored(self, index: int) -> bytes:
        return stored_image(self._folder / self._images[index]["file_name"])


def _load(path: Path) -> tuple[_ById, _ById, list[_Record]]:
    document = read_document(path)
    categories = _by_id(_checked(document, "categories", path), "categories", path)
    images = _by_id(_checked(document, "images", path), "images", path)
    annotations = _checked(document, "annotations", path)
    _by_id(annotations, "annotations", path)
    if len({category["name"] for category in categories.values()}) < len(categories):
        raise UserError(f"{path}: two categories have the same name")
    for image in images.values():
        check_image(image, path)
    for place, annotation in enumerate(annotations):
        where = f"{path}: annotations[{place}]"
        check_owner(annotation, where, images)
        check_category(annotation, where, categories)
        check_box(annotation, where)
        check_marks(annotation, where)
    return categories, images, annotations


def read_document(path: Path) -> _Record:
    """The JSON object in a file, plain or gzipped."""
    try:
        data = path.read_bytes()
        document = json.loads(gzip.decompress(data) if data.startswith(_GZIP) else data)
    except OSError as error:  # gzip's own errors are OSErrors too
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zlib.error, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a JSON object with images, annotations, categories")
    return document


def records(document: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    """The list under a key of the document; what is in it is unchecked."""
    found = document.get(key)
    if not isinstance(found, list):
        present = ", ".join(map(str, document)) or "nothing"
        raise UserError(f'{path}: no list "{key}" in it; it holds {present}')
    return found


def check_fields(record: Any, key: str, place: int, path: Path) -> None:
    """Refuses a record of the list ``key`` in which a field is missing or of another type."""
    if not isinstance(record, dict):
        raise UserError(f"{path}: {key}[{place}] is not an object")
    for field, kind in FIELDS[key].items():
        # Not isinstance: true and false are no numbers here.
        if type(record.get(field)) is not kind:
            found = f"is {record[field]!r}" if field in record else "is missing"
            raise UserError(
                f'{path}: "{field}" of {key}[{place}] {found}; expected {kind.__name__}'
            )


def _checked(document: Mapping[str, Any], key: str, path: Path) -> list[_Record]:
    found = records(document, key, path)
    for place, record in enumerate(found):
        check_fields(record, key, place, path)
    return found


def _by_id(records: list[_Record], key: str, path: Path) -> _ById:
    found: _ById = {}
    for record in records:
        if record["id"] in found:
            raise UserError(f"{path}: two {key} have the id {record['id']}")
        if not -(2**63) <= record["id"] < 2**63:
            raise UserError(f"{path}: id {record['id']} in {key} does not fit in 64 bits")
        found[record["id"]] = record
    return found


def check_image(image: Mapping[str, Any], path: Path) -> None:
    """Refuses an image without pixels, or a file name that leads out of the folder."""
    name, width, height = image["file_name"], image["width"], image["height"]
    if width < 1 or height < 1:
        raise UserError(f'{path}: image "{name}" is {width}x{height} pixels')
    # Windows rules know both separators and drive letters, so they refuse what either system would.
    parts = PureWindowsPath(name)
    if not parts.name or parts.anchor or ".." in parts.parts:
        raise UserError(f'{path}: file_name "{name}" does not stay inside the image folder')


def check_owner(annotation: Mapping[str, Any], where: str, images: Collection[int]) -> None:
    """Refuses an annotation of no image."""
    if annotation["image_id"] not in images:
        raise UserError(f"{where} has image_id {annotation['image_id']}, which no image has")


def check_category(annotation: Mapping[str, Any], where: str, categories: Collection[int]) -> None:
    """Refuses an annotation of no class."""
    if annotation["category_id"] not in categories:
        raise UserError(
            f"{where} has category_id {annotation['category_id']}, which no category has"
        )


def check_box(annotation: Mapping[str, Any], where: str) -> None:
    """Refuses a box that is not four numbers, or turned inside out."""
    box = annotation["bbox"]
    if len(box) != 4 or not all(map(_is_finite, box)) or box[2] < 0 or box[3] < 0:
        raise UserError(f"{where} has bbox {box}; expected [x, y, width, height] in pixels")


def check_marks(annotation: Mapping[str, Any], where: str) -> None:
    """Refuses an ``iscrowd`` or ``area`` that is none."""
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise UserError(f"{where} has iscrowd {annotation['iscrowd']!r}; expected 0 or 1")
    if "area" in annotation and not _is_finite(annotation["area"]):
        raise UserError(f"{where} has area {annotation['area']!r}; expected square pixels")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _kept(images: _ById, keep_ids: Collection[int] | None, path: Path) -> list[_Record]:
    if keep_ids is not None:
        unknown = [number for number in keep_ids if number not in images]
        if unknown:
            raise UserError(f"{path}: no image with id {unknown[0]} to keep")
        chosen = set(keep_ids)
        images = {number: image for number, image in images.items() if number in chosen}
    if not images:
        raise UserError(f"{path}: no images in it" + (" to keep" if keep_ids is not None else ""))
    return [{field: image[field] for field in _IMAGE} for image in images.values()]

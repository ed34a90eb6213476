"""What annotation files hold beside boxes, classes and marks: no reader takes it, so it is lost."""

from collections import Counter
from pathlib import Path
from typing import Any

from detector.data.dataset import Dataset, whole
from detector.data.formats.instances import read_document
from detector.data.formats.voc import Voc
from detector.data.formats.voc_xml import read_tree
from detector.data.formats.yolo import Yolo
from detector.errors import UserError

_COCO = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "difficult"}
_VOC = {"name", "difficult", "bndbox"}


def unread_of(dataset: Dataset, annotations: Path | None) -> list[str]:
    """Notes on what a conversion of this data set leaves behind.

    Args:
        annotations: file of a COCO data set.
    """
    source = whole(dataset)
    if isinstance(source, Yolo):
        outlines = sum(source.segments(index) for index in range(len(source)))
        return [f"outlines are written as their boxes ({outlines:,})"] if outlines else []
    found: Counter[str] = Counter()
    if isinstance(source, Voc):
        for index in range(len(source)):
            for thing in read_tree(source.annotation_file(index)).findall("object"):
                found.update(sorted({part.tag for part in thing} - _VOC))
    elif annotations is not None:
        document = read_document(annotations)
        for row in document["annotations"]:
            found.update(key for key, value in _items(row) if key not in _COCO and value)
        for row in document["categories"]:
            found.update(
                f"{key} of categories" for key, _ in _items(row) if key not in ("id", "name")
            )
    if not found:
        return []
    told = ", ".join(f"{name} ({count:,})" for name, count in found.most_common(8))
    return [f"left behind, as no format here reads it: {told}"]


def _items(row: object) -> Any:
    if not isinstance(row, dict):
        raise UserError("an annotation is not an object")
    return row.items()

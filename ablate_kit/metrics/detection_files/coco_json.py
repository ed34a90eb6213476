"""COCO results: a JSON list of ``image_id``, ``category_id``, ``bbox``, ``score``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.column_checks import Rows, integers, numbers, position, values
from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from ablate_kit.metrics.detection_files.named_ids import BESIDE, NamedIds, named
from ablate_kit.metrics.detection_files.raw_rows import Indices, Raw, image_positions
from ablate_kit.metrics.detection_files.text_files import json_rows


def read_coco_json(path: Path, against: AnnotatedImages, *, has_sizes: bool) -> Raw:
    """The rows of a COCO results file, plain or gzipped, read in blocks.

    An ``image_id`` that is text is the image's file name, path or stem, as some tools write; a
    ``category_id`` that is text is the class's name. Numbers that a file beside it names
    (``NamedIds``) are those names. An object in each line instead of a list of them is read with a
    note.

    Raises:
        UserError: no such file, not JSON, no list, or a row without one of its four values.
    """
    where, columns, first = str(path), [], 0
    one_to_a_line, lines = False, list[int]()
    for rows, at in json_rows(path):
        columns.append(
            (
                _ids(rows, "image_id", where, first),
                _ids(rows, "category_id", where, first),
                numbers(rows, "bbox", where, (4,), first=first, finite=False),
                numbers(rows, "score", where, first=first, finite=False),
            )
        )
        first += len(rows)
        if at is not None:
            one_to_a_line = True
            lines += at
    images, labels, boxes, scores = zip(*columns, strict=True)
    image_ids, category_ids = _joined(images), _joined(labels)
    notes = [f"{where}: JSON lines, an object in each, not a list"] if one_to_a_line else []
    names = NamedIds.beside(path)
    told = {
        "images": _named(image_ids, names.images if against.names.whole else {}),
        "classes": _named(category_ids, names.categories),
    }
    if any(told.values()):
        which = " and ".join(what for what, found in told.items() if found)
        notes.append(f"{where}: {which} by their names in {path.parent / BESIDE}")
    image_ids, category_ids = told["images"] or image_ids, told["classes"] or category_ids
    return Raw(
        image=_images(image_ids, against),
        labels=_labels(category_ids, against),
        boxes=np.concatenate(boxes),
        scores=np.concatenate(scores),
        has_sizes=has_sizes,
        files=(where,),
        starts=(0,),
        first_line=int(one_to_a_line),
        image_names=image_ids,
        label_names=category_ids,
        notes=tuple(notes),
        lines=np.array(lines, dtype=np.int64) if one_to_a_line else None,
    )


def _ids(rows: Rows, key: str, where: str, first: int) -> Indices | list[str]:
    """Integers; or, where one of them is text, all as text."""
    found = values(rows, key, where, first)
    if str in set(map(type, found)):
        for at, value in enumerate(found):
            if not isinstance(value, str) and type(value) is not int:
                problem = f'"{key}" must be an integer or a name, got {value!r:.80}'
                raise UserError(f"{where}[{first + at}]: {problem}")
        return [str(value) for value in found]
    return integers(rows, key, where, first)


def _joined(parts: Sequence[Indices | list[str]]) -> Indices | list[str]:
    whole = [part for part in parts if isinstance(part, np.ndarray)]
    if len(whole) == len(parts):
        return np.concatenate(whole)
    return [str(one) for part in parts for one in part]


def _named(ids: Indices | list[str], names: Mapping[int, str]) -> list[str] | None:
    return None if isinstance(ids, list) or not len(ids) else named(ids, names)


def _images(ids: Indices | list[str], against: AnnotatedImages) -> Indices:
    if isinstance(ids, list):
        return image_positions(ids, against.names, against.truth)
    return position(ids, against.truth.image_ids)


def _labels(ids: Indices | list[str], against: AnnotatedImages) -> Indices:
    truth = against.truth
    if isinstance(ids, list):
        known = {str(number): index for index, number in enumerate(truth.category_ids)}
        known |= {name: index for index, name in enumerate(truth.classes)}
        return np.array([known.get(one, -1) for one in ids], dtype=np.int64)
    return position(ids, np.asarray(truth.category_ids, dtype=np.int64))

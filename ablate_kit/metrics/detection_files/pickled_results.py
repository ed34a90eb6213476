"""Detections in pickles: MMDetection's ``results.pkl``, Detectron2's ``instances_predictions``.

Another package turns the file into plain values; here they are told apart by their form.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError
from ablate_kit.metrics.column_checks import position
from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from ablate_kit.metrics.detection_files.raw_rows import Raw, image_positions, truth_labels

_EXPECTED = "MMDetection's results.pkl or Detectron2's instances_predictions.pth"

_MOST = 2**53

# Of one image: its id (None: by place), corners or sizes, scores, class numbers.
_One = tuple[Any, NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def read_pickled(
    path: Path, value: Any, against: AnnotatedImages, class_names: Sequence[str] | None
) -> Raw:
    """The detections in what a pickle says.

    Classes are numbered from 0, in the order of ``class_names``, by default of the ground truth.

    Raises:
        UserError: a value of another form, or one of other images or classes.
    """
    where = str(path)
    names = tuple(class_names or against.truth.classes)
    if isinstance(value, dict):
        raise UserError(
            f"{where}: a dictionary, as a checkpoint is ('ablate eval' evaluates those); "
            f"expected {_EXPECTED}"
        )
    form = _form(value)
    if form is None:
        raise UserError(f"{where}: a pickle of another form; expected {_EXPECTED}")
    has_sizes, of_image = form
    ones: list[_One] = []
    for at, image in enumerate(value):
        try:
            ones.append(of_image(image, len(names)))
        except UserError as error:
            raise UserError(f"{where}[{at}]: {error}") from None
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            raise UserError(f"{where}[{at}]: not an image of {_EXPECTED}") from None
    counts = [len(scores) for _, _, scores, _ in ones]
    which = np.repeat(np.arange(len(ones)), counts)
    images, shown = _images([one[0] for one in ones], where, against)
    number = np.concatenate([one[3] for one in ones])
    known = (number >= 0) & (number < len(names))
    return Raw(
        image=images[which],
        labels=np.where(known, truth_labels(names, against.truth)[np.where(known, number, 0)], -1),
        boxes=np.concatenate([one[1] for one in ones]),
        scores=np.concatenate([one[2] for one in ones]),
        has_sizes=has_sizes,
        image_names=np.asarray(shown, dtype=object)[which],
        label_names=number,
        files=(where,),
        starts=(0,),
        first_line=0,
        lines=which,
    )


def _form(value: Any) -> tuple[bool, Callable[[Any, int], _One]] | None:
    """Whether boxes have sizes, and what reads an image, of a list of images."""
    if not isinstance(value, list) or not value:
        return None
    first = value[0]
    if isinstance(first, Mapping):
        if "pred_instances" in first:
            return False, _of_mmdetection_3
        return (True, _of_detectron2) if "instances" in first else None
    return (False, _of_mmdetection_2) if isinstance(first, list | tuple) else None


def _of_mmdetection_2(image: Any, classes: int) -> _One:
    """An array (n, 5) of corners and score for each class; beside masks, the first of a pair."""
    by_class = image[0] if isinstance(image, tuple) else image
    if len(by_class) != classes:
        raise UserError(
            f"detections of {len(by_class)} classes, and there are {classes}; --class-names FILE "
            "names those of the model"
        )
    tables = [_floats(table, 5) for table in by_class]
    table = np.concatenate(tables)
    labels = np.repeat(np.arange(classes), [len(one) for one in tables])
    return None, table[:, :4], table[:, 4], labels


def _of_mmdetection_3(image: Any, classes: int) -> _One:
    found = image["pred_instances"]
    boxes, scores = _floats(found["bboxes"], 4), _floats(found["scores"])
    labels = _whole(found["labels"])
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError
    return image["img_id"], boxes, scores, labels


def _of_detectron2(image: Any, classes: int) -> _One:
    """COCO's rows, but with classes counted from 0: Detectron2 gives them ids after saving."""
    rows = image["instances"]
    boxes = _floats([row["bbox"] for row in rows], 4)
    scores = _floats([row["score"] for row in rows])
    labels = _whole([row["category_id"] for row in rows])
    return image["image_id"], boxes, scores, labels


def _floats(values: Any, *shape: int) -> NDArray[np.float64]:
    """(n, *shape); raises ``ValueError`` for anything but numbers of that shape."""
    found = np.asarray(values)
    if not found.size:
        return np.empty((0, *shape))
    if found.dtype.kind not in "fiu" or found.shape[1:] != shape or not found.ndim:
        raise ValueError
    return found.astype(np.float64)


def _whole(values: Any) -> NDArray[np.int64]:
    """(n,); raises ``ValueError`` for anything but whole numbers that a float holds, too."""
    found = _floats(values)
    if not (np.abs(found) < _MOST).all() or (found % 1).any():
        raise ValueError
    return found.astype(np.int64)


def _images(
    ids: list[Any], where: str, against: AnnotatedImages
) -> tuple[NDArray[np.int64], list[Any]]:
    """The images' positions in the ground truth, and what the dump calls them."""
    truth = against.truth
    if all(one is None for one in ids):
        if len(ids) != len(truth.image_ids):
            raise UserError(
                f"{where}: {len(ids)} images, which it has no names for, and the ground truth has "
                f"{len(truth.image_ids)}; it must be of the very data set, in its order"
            )
        return np.arange(len(ids)), truth.image_ids.tolist()
    if all(type(one) is int and abs(one) < 2**63 for one in ids):
        return position(np.array(ids, dtype=np.int64), truth.image_ids), ids
    return image_positions([str(one) for one in ids], against.names, truth), ids

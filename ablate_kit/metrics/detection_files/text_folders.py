"""Folders of text files: one per class (VOC devkit) or one per image (YOLO)."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.metrics.detection_files.annotated_images import AnnotatedImages
from ablate_kit.metrics.detection_files.raw_rows import Numbers, Raw, image_positions, truth_labels
from ablate_kit.metrics.detection_files.text_files import read_lines
from detector.data.formats.yolo_boxes import corners
from detector.disk.visible import visible

_YOLO = "class x y width height score"

# No share of an image comes close, however far a detector's boxes leave it.
_NO_SHARE = 2.0

# Shares of rows: of numbers that cannot be shares; of boxes inside, where the order is not doubted;
# and of those that must fit another order. Boxes that were not clipped leave the image a little.
_FEW, _MANY, _MOST = 0.05, 0.75, 0.98
_SLACK = 0.02

_DEVKIT = re.compile(r"[^_]+_det_[^_]+_(?P<label>.+)\.txt")


def texts(folder: Path) -> list[Path]:
    """The files of detections in a folder of text files."""
    return [path for path in visible(folder, "*.txt") if path.name != "classes.txt"]


def is_devkit(folder: Path) -> bool:
    return any(_DEVKIT.fullmatch(path.name) for path in visible(folder, "*.txt"))


def read_devkit(folder: Path, against: AnnotatedImages) -> Raw:
    """``comp4_det_test_<class>.txt``: image, score, left, top, right, bottom in each line.

    VOC counts pixels from 1 and includes the last one. In continuous coordinates 1 is taken off the
    top left corner only, which makes IoU what the devkit computes with its "+ 1".

    Raises:
        UserError: a file of an unknown class, or a line of another form.
    """
    classes = against.truth.classes
    images: list[str] = []
    labels: list[int] = []
    tables, starts, files = [], [], []
    lines: list[int] = []
    for path in visible(folder, "*.txt"):
        match = _DEVKIT.fullmatch(path.name)
        if match is None:
            expected = "expected names such as comp4_det_test_dog.txt"
            raise UserError(f"{path}: not a file of VOC detections; {expected}")
        if match["label"] not in classes:
            near = did_you_mean(match["label"], classes)
            raise UserError(f'{path}: "{match["label"]}" is no class of the ground truth{near}')
        first, numbers, at = _columns(path, 6, "image score left top right bottom", named=True)
        lines += at
        starts.append(len(images))
        files.append(str(path))
        images.extend(first)
        labels.extend([classes.index(match["label"])] * len(first))
        tables.append(numbers)
    table = np.concatenate(tables)
    boxes = table[:, 1:].copy()
    boxes[:, :2] -= 1
    present = set(labels)
    absent = [name for index, name in enumerate(classes) if index not in present]
    return Raw(
        image=image_positions(images, against.names, against.truth),
        labels=np.array(labels, dtype=np.int64),
        boxes=boxes,
        scores=table[:, 0],
        has_sizes=False,
        image_names=images,
        label_names=[classes[label] for label in labels],
        files=tuple(files),
        starts=tuple(starts),
        first_line=1,
        lines=np.array(lines, dtype=np.int64),
        notes=(f"{folder}: no detections of {', '.join(absent)}",) if absent else (),
    )


def read_yolo(folder: Path, against: AnnotatedImages, class_names: Sequence[str] | None) -> Raw:
    """A text file per image, each line: class, center x, center y, width, height, score.

    Coordinates are shares of the image's size. Classes are numbered from 0, in the order of
    ``class_names``, by default of the ground truth.

    Raises:
        UserError: a line of another form or numbers that mean something else, a class name that
            the ground truth does not have, or an image of unknown size.
    """
    truth, names = against.truth, tuple(class_names or against.truth.classes)
    order = truth_labels(names, truth)
    images: list[str] = []
    tables, starts, files = [], [], []
    lines: list[int] = []
    for path in texts(folder):
        _, numbers, at = _columns(path, 6, _YOLO, named=False)
        lines += at
        starts.append(len(images))
        files.append(str(path))
        images.extend([path.stem] * len(numbers))
        tables.append(numbers)
    table = np.concatenate(tables)
    _check_shares(table, files[0] if len(files) == 1 else f"{files[0]} and others")
    image = image_positions(images, against.names, truth)
    size = np.stack([truth.widths, truth.heights], axis=1)[image].astype(np.float64)
    unsized = np.flatnonzero((image >= 0) & (size <= 0).any(axis=1))
    if len(unsized):
        reason = "which shares of its size need; the annotations must give width and height"
        raise UserError(f"{folder}: the size of image {images[unsized[0]]} is unknown, {reason}")
    known = np.isin(table[:, 0], np.arange(len(names)))
    number = np.where(known, table[:, 0], 0).astype(np.int64)
    return Raw(
        image=image,
        labels=np.where(known, order[number], -1),
        boxes=corners(table[:, 1:5], size),
        scores=table[:, 5],
        has_sizes=False,
        image_names=images,
        label_names=table[:, 0],
        files=tuple(files),
        starts=tuple(starts),
        first_line=1,
        lines=np.array(lines, dtype=np.int64),
    )


def _columns(
    path: Path, width: int, form: str, *, named: bool
) -> tuple[list[str], Numbers, list[int]]:
    """The first word of every line where ``named``, (lines, width or width - 1) numbers, and which
    lines they are: empty ones are passed over."""
    split = [line.split() for line in read_lines(path)]
    at = [number for number, row in enumerate(split, start=1) if row]
    rows = [row for row in split if row]
    words = [row[1:] for row in rows] if named else rows
    try:
        table = np.array(words, dtype=np.float64).reshape(-1, width - named)
        if len(table) != len(rows):
            raise ValueError
    except ValueError:
        bad = next(i for i, row in enumerate(rows) if not _is_row(row, width, named))
        hint = ""
        if not named and len(rows[bad]) == width - 1:
            hint = " (no score: ultralytics writes it with save_conf=True)"
        got = " ".join(rows[bad])
        raise UserError(f'{path}:{at[bad]}: expected "{form}", got "{got:.60}"{hint}') from None
    return [row[0] for row in rows] if named else [], table, at


def _is_row(row: list[str], width: int, named: bool) -> bool:
    try:
        return len([float(word) for word in row[named:]]) == width - named
    except ValueError:
        return False


def _check_shares(table: Numbers, where: str) -> None:
    """Refuse columns that are evidently no shares of the image, or not in YOLO's order.

    Raises:
        UserError: what they look like instead.
    """
    if not len(table):
        return
    expected = f"expected {_YOLO}, coordinates as shares of the image's size, from 0 to 1"
    beyond = (np.abs(table[:, 1:5]) > _NO_SHARE).any(axis=1).mean()
    if beyond > _FEW:
        first = ""
        if (table[:, 5] > _NO_SHARE).mean() > _FEW and (table[:, 1] <= 1).all():
            first = ", after the score"
        raise UserError(
            f"{where}: these look like pixels{first}: {beyond:.0%} of the rows have coordinates "
            f"above {_NO_SHARE:g}; {expected}"
        )
    if _fitting(table[:, 1:5]) >= _MANY:
        return
    corners = table[:, 1:5]
    if _fitting(table[:, 2:6]) > _MOST:
        looks = "class score x y width height"
    elif ((corners >= -_SLACK) & (corners <= 1 + _SLACK)).all(axis=1).mean() > _MOST and (
        corners[:, 2:] >= corners[:, :2]
    ).all(axis=1).mean() > _MOST:
        looks = "class x1 y1 x2 y2 score"
    else:
        return
    leaving = 1 - _fitting(corners)
    raise UserError(
        f'{where}: these look like "{looks}": {leaving:.0%} of the boxes would leave their image; '
        f"{expected}"
    )


def _fitting(boxes: Numbers) -> float:
    """The share of boxes (center, size) that lie in the image."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    inside = (low >= -_SLACK) & (high <= 1 + _SLACK) & (boxes[:, 2:] >= 0)
    return float(inside.all(axis=1).mean())

"""YOLO: a ``data.yaml``, and a text file of objects for each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.data.dataset import (
    Annotations,
    FileDataset,
    Flags,
    Floats,
    Integers,
    image_ids,
    object_ids,
)
from detector.data.formats.fields import Tell, number, refuse, shown
from detector.data.formats.yolo_boxes import corners, on_grid
from detector.data.formats.yolo_files import YoloFile, YoloImage
from detector.data.image_files import Exif, image_size
from detector.disk.bounded import SETTINGS, read_bounded
from detector.disk.visible import visible
from detector.errors import UserError

_NO_SHARE = 2.0  # no share of an image comes close, however far a box leaves it


class Yolo(FileDataset):
    """The images of one split of a YOLO data set.

    ``data_yaml`` names classes and splits (``formats.yolo_files``). Each line of an image's
    label file is an object: its class by number, then center and size of its box, or the corners
    of its outline, of which the box is taken, as shares of the image's sides. An outline's area is
    the object's. Boxes are as written, not clipped to the image. An image without a label file has
    no objects. ``root`` is the data set's folder, where that is not the one that the file says.

    A label file is read when its image is first asked for, with the image's size, and then kept.
    The image id is the number that is the file's name; of another name, or one that two images of
    the split have, a digest of its path. Category ids are class numbers plus 1.
    """

    def __init__(
        self,
        data_yaml: str | Path,
        split: str = "val",
        root: str | Path | None = None,
        exif: Exif = "ignore",
    ) -> None:
        super().__init__(exif)
        file = YoloFile.read(Path(data_yaml), Path(root) if root is not None else None)
        self.classes, self._keypoints = file.classes, file.keypoints
        self.category_ids = tuple(range(1, len(self.classes) + 1))
        self.folder = file.root
        self._images = file.images(split)
        self._ids = image_ids([one.name for one in self._images])
        self.notes = (*file.notes, *without_labels(self._images, f"{file.path}: {split}"))
        self._read: dict[int, Annotations] = {}

    def __len__(self) -> int:
        return len(self._images)

    def annotations(self, index: int) -> Annotations:
        if index not in self._read:
            self._read[index] = self._annotations(index)
        return self._read[index]

    def file(self, index: int) -> Path:
        return self._images[index].path

    def segments(self, index: int) -> int:
        """How many of an image's objects are written as outlines."""
        objects = self._objects(index, (1, 1))
        return int(objects.outlined.sum())

    def _annotations(self, index: int) -> Annotations:
        image = self._images[index]
        width, height = image_size(image.path, self._exif)
        objects = self._objects(index, (width, height))
        return Annotations(
            image_id=self._ids[index],
            file_name=image.name,
            width=width,
            height=height,
            boxes=objects.boxes,
            labels=objects.labels,
            ignore=np.zeros(len(objects.labels), dtype=np.bool_),
            areas=objects.areas,
            ids=object_ids(self._ids[index], len(objects.labels)),
        )

    def _objects(self, index: int, size: tuple[int, int]) -> "Objects":
        path = self._images[index].labels
        return read_objects(path, size, len(self.classes), self._keypoints)


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one label file."""

    labels: Integers
    boxes: Floats  # (n, 4) xyxy in pixels
    areas: Floats  # (n,) square pixels, of the outline where there is one
    outlined: Flags  # (n,) whether that is so
    lines: Integers  # (n,) of the file


def read_objects(
    path: Path, size: tuple[int, int], classes: int, keypoints: int, tell: Tell = refuse
) -> Objects:
    """The objects in a label file of an image of (width, height); none where there is no file.

    Args:
        keypoints: how many numbers follow each box.
        tell: is told the kind (of ``check.KINDS``) and words of each problem; by default the first
            raises ``UserError``.
    """
    rows: list[tuple[int, list[float], float, bool, int]] = []
    for at, words in _rows(path, tell):
        where = f"{path}:{at}"
        found = _numbers(words, keypoints)
        if isinstance(found, str):
            tell("malformed annotation", f"{where}: {found}")
            continue
        label, values = int(found[0]), found[1:]
        if not 0 <= label < classes:
            told = f"class {label} has no name; there are {classes}, counted from 0"
            tell("unknown class", f"{where}: {told}")
        elif max(map(abs, values)) > _NO_SHARE:
            told = "expected shares of the image's sides, from 0 to 1; these look like pixels"
            tell("malformed annotation", f"{where}: {shown(' '.join(words))}: {told}")
        elif len(values) == 4 and min(values[2:]) < 0:
            told = f"a box of width {values[2]:g} and height {values[3]:g}"
            tell("degenerate box", f"{where}: {told}")
        else:
            box, area = _box(values, size)
            rows.append((label, box, area, len(values) > 4, at))
    labels, boxes, areas, outlined, lines = zip(*rows, strict=True) if rows else [()] * 5
    return Objects(
        np.array(labels, dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(areas, dtype=np.float64),
        np.array(outlined, dtype=np.bool_),
        np.array(lines, dtype=np.int64),
    )


def without_labels(images: Sequence[YoloImage], where: str) -> tuple[str, ...]:
    """A note on images that have no label file; ``UserError`` where none has one."""
    missing = [image for image in images if not image.labels.is_file()]
    if len(missing) == len(images):
        raise UserError(
            f"{where}: none of the {len(images):,} images has a label file; the first would be "
            f"{images[0].labels}"
        )
    if not missing:
        return ()
    first = missing[0].name
    have = "has" if len(missing) == 1 else "have"
    return (
        f"{where}: {len(missing):,} of {len(images):,} images {have} no label file, so no objects, "
        f"such as {first}",
    )


def without_images(images: Sequence[YoloImage], where: str) -> tuple[str, ...]:
    """A note on label files whose image is gone, which no list or folder of images shows: those in
    folders of labels alone beside which no image has their name."""
    found = []
    for labels, folder in sorted({(one.labels.parent, one.path.parent) for one in images}):
        if labels != folder and labels.is_dir():
            known = {path.stem for path in folder.iterdir()} | {"classes"}
            found += [path for path in visible(labels, "*.txt") if path.stem not in known]
    if not found:
        return ()
    have = "label file has" if len(found) == 1 else "label files have"
    return (f"{where}: {len(found):,} {have} no image, such as {found[0]}",)


def _rows(path: Path, tell: Tell) -> list[tuple[int, list[str]]]:
    """The lines that hold anything, each with its number."""
    try:
        text = read_bounded(path, SETTINGS).decode("utf-8-sig")
    except FileNotFoundError:
        return []
    except OSError as error:
        tell("malformed annotation", f"{path}: cannot be read: {error.strerror}")
        return []
    except UnicodeDecodeError:
        tell("malformed annotation", f"{path}: not text in UTF-8")
        return []
    split = [(at, line.split()) for at, line in enumerate(text.splitlines(), start=1)]
    return [(at, words) for at, words in split if words]


def _numbers(words: Sequence[str], keypoints: int) -> list[float] | str:
    """The class and the four numbers of a box, or six and more of an outline; or what is wrong."""
    expected = "expected class, center and size, or class and the corners of an outline"
    got = shown(" ".join(words[:8]))
    found = [number(word) for word in words]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return f"{got}: {expected}, in numbers"
    if not known[0].is_integer():
        return f"{got}: the class is {known[0]:g}; expected a whole number"
    if keypoints:
        if len(known) != 5 + keypoints:
            return (
                f"{got}: {len(known)} numbers; expected a box and keypoints, {5 + keypoints} in all"
            )
        return known[:5]
    if len(known) == 5 or (len(known) >= 7 and len(known) % 2):
        return known
    hint = "; with a score it is a detection, and no label" if len(known) == 6 else ""
    return f"{got}: {len(known)} number{'s' * (len(known) > 1)}; {expected}{hint}"


def _box(values: Sequence[float], size: tuple[int, int]) -> tuple[list[float], float]:
    """xyxy in pixels, and an area."""
    if len(values) == 4:
        box = corners(values, size)[0]
        return [*box], float((box[2:] - box[:2]).prod())
    pixels = np.array(values).reshape(-1, 2) * size
    low, high = on_grid(pixels.min(axis=0)), on_grid(pixels.max(axis=0))
    x, y = pixels.T
    enclosed = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return [*low, *high], enclosed

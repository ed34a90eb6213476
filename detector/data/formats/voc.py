"""PASCAL VOC, and data sets in its form: folders, splits, and one XML file per image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.data.dataset import Annotations, FileDataset, box_areas, digest_id, object_ids
from detector.data.formats.fields import Difficult, check_difficult
from detector.data.formats.voc_classes import find_classes, notes_on
from detector.data.formats.voc_devkit import (
    devkit_folder,
    lines_of,
    parse_split,
    read_name,
    split_file,
)
from detector.data.formats.voc_xml import read_box, read_difficult, read_label, read_size, read_tree
from detector.data.image_files import Exif, find_image
from detector.errors import UserError


class Voc(FileDataset):
    """Images of one or more splits of PASCAL VOC, in the order of the split files.

    ``root`` is the VOCdevkit folder, one that holds a ``VOCdevkit`` folder, or one that is a
    year's itself: with ``Annotations``, ``ImageSets`` and ``JPEGImages``. ``split`` names files of
    ``ImageSets/Main``, joined with ``+``, each with its year, or without where there is one year
    alone: ``2007:trainval+2012:trainval``. Objects that VOC marks as difficult
    are kept with ``ignore`` set, as VOC itself scores them; ``difficult="keep"`` makes them
    ordinary objects, ``"drop"`` leaves them out. ``classes`` are VOC's 20, or those that
    ``find_classes`` finds where a data set has its own. How images are decoded, ``exif``
    included: ``detector.data.image_files``.

    VOC counts pixels from 1 and includes the last: a box of columns 1..w is the whole width. In
    continuous coordinates that is 0..w, so 1 is taken off the top left corner only.

    An annotation file is read when its image is first asked for, and then kept in memory. The
    image id is the number in the file name, with the year before it where the name has one
    (``000005`` -> 5, ``2008_000005`` -> 2008000005), which is unique over all years; of another
    name it is a digest.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        difficult: Difficult = "ignore",
        classes: Sequence[str] | None = None,
        exif: Exif = "ignore",
    ) -> None:
        check_difficult(difficult)
        super().__init__(exif)
        self._difficult: Difficult = difficult
        self._images = _listed(Path(root), parse_split(split))
        self.classes = tuple(classes or find_classes(image.year_folder for image in self._images))
        self.category_ids = tuple(range(1, len(self.classes) + 1))
        self.notes = notes_on(self.classes, str(root)) if classes is None else ()
        self._read: dict[int, Annotations] = {}

    def __len__(self) -> int:
        return len(self._images)

    def annotations(self, index: int) -> Annotations:
        image = self._images[index]
        if image.image_id not in self._read:
            self._read[image.image_id] = _annotations(
                image, self.classes, self._difficult, self._exif
            )
        return self._read[image.image_id]

    def annotation_file(self, index: int) -> Path:
        image = self._images[index]
        return image.year_folder / "Annotations" / f"{image.name}.xml"

    def file(self, index: int) -> Path:
        folder = self._images[index].year_folder / "JPEGImages"
        return folder / self.annotations(index).file_name


@dataclass(frozen=True)
class _Image:
    year_folder: Path
    name: str  # without suffix

    @property
    def image_id(self) -> int:
        if re.fullmatch(r"(\d{4}_)?\d{6}|\d{1,9}", self.name, re.ASCII):
            return int(self.name.replace("_", ""))
        return digest_id(self.name)


def _listed(root: Path, splits: tuple[tuple[str, str], ...]) -> tuple[_Image, ...]:
    listed_in: dict[_Image, str] = {}
    names_of: dict[int, str] = {}
    for year, split in splits:
        folder = devkit_folder(root, year, split)
        file = split_file(folder, split)
        lines = lines_of(file)
        if not lines:
            raise UserError(f"{file}: split is empty")
        for line in lines:
            name = read_name(line, file)
            image = _Image(folder, name)
            if image in listed_in:
                raise UserError(f"{file}: image {name} was already listed in {listed_in[image]}")
            listed_in[image] = split
            other = names_of.setdefault(image.image_id, name)
            if other != name or len(names_of) < len(listed_in):
                raise UserError(f"{file}: images {other} and {name} would have the same id")
    return tuple(listed_in)


def _annotations(
    image: _Image, classes: tuple[str, ...], difficult: Difficult, exif: Exif
) -> Annotations:
    path = image.year_folder / "Annotations" / f"{image.name}.xml"
    tree = read_tree(path)
    elements = tree.findall("object")
    # Ids are given before any object is dropped: they do not depend on how difficult is handled.
    ids = object_ids(image.image_id, len(elements))
    marked = np.array([read_difficult(element, path) for element in elements], dtype=np.bool_)
    labels = np.array([read_label(element, path, classes) for element in elements], dtype=np.int64)
    boxes = np.array([read_box(element, path) for element in elements], dtype=np.float64)
    boxes = boxes.reshape(-1, 4)
    kept = ~marked if difficult == "drop" else np.ones_like(marked)
    file = find_image(image.year_folder / "JPEGImages", image.name)
    width, height = read_size(tree, path, file, exif)
    return Annotations(
        image_id=image.image_id,
        file_name=file.name,
        width=width,
        height=height,
        boxes=boxes[kept],
        labels=labels[kept],
        ignore=marked[kept] & (difficult == "ignore"),
        areas=box_areas(boxes)[kept],
        ids=ids[kept],
    )

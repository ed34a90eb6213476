"""PASCAL VOC: a VOCdevkit folder, years and splits."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.data.dataset import (
    Annotations,
    Pixels,
    box_areas,
    object_ids,
    read_image,
    stored_image,
)
from detector.data.fields import Difficult, check_difficult
from detector.errors import UserError, did_you_mean

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


class Voc:
    """Images of one or more splits of PASCAL VOC, in the order of the split files.

    ``root`` is the VOCdevkit folder, or one that holds a ``VOCdevkit`` folder. ``split`` names
    files of ``ImageSets/Main``, joined with ``+`` (see ``parse_split``). Objects that VOC marks
    as difficult are kept with ``ignore`` set, as VOC itself scores them; ``difficult="keep"``
    makes them ordinary objects, ``"drop"`` leaves them out.

    VOC counts pixels from 1 and includes the last: a box of columns 1..w is the whole width. In
    continuous coordinates that is 0..w, so 1 is taken off the top left corner only.

    An annotation file is read when its image is first asked for, and then kept in memory. The
    image id is the number in the file name, with the year before it where the name has one
    (``000005`` -> 5, ``2008_000005`` -> 2008000005), which is unique over all years.
    """

    classes = CLASSES
    category_ids = tuple(range(1, len(CLASSES) + 1))

    def __init__(
        self,
        root: str | Path,
        split: str,
        years: Sequence[str] = ("2007",),
        difficult: Difficult = "ignore",
    ) -> None:
        check_difficult(difficult)
        self._difficult = difficult
        self._images = _listed(Path(root), parse_split(split, years))
        self._read: dict[int, Annotations] = {}

    def __len__(self) -> int:
        return len(self._images)

    def annotations(self, index: int) -> Annotations:
        image = self._images[index]
        if image.image_id not in self._read:
            self._read[image.image_id] = _annotations(image, self._difficult)
        return self._read[image.image_id]

    def image(self, index: int) -> Pixels:
        objects = self.annotations(index)
        return read_image(self._file(index), objects.width, objects.height)

    def stored(self, index: int) -> bytes:
        return stored_image(self._file(index))

    def _file(self, index: int) -> Path:
        folder = self._images[index].year_folder / "JPEGImages"
        return folder / self.annotations(index).file_name


def parse_split(split: str, years: Sequence[str] = ("2007",)) -> tuple[tuple[str, str], ...]:
    """(year, split file) pairs of ``"2007:trainval+2012:trainval"``.

    A part without a year stands for that split of every one of ``years``.
    """
    pairs: list[tuple[str, str]] = []
    for part in split.split("+"):
        year, colon, name = part.strip().rpartition(":")
        if not name or (colon and not re.fullmatch(r"\d{4}", year)):
            raise UserError(
                f'VOC split "{split}" is not understood at "{part}"; '
                'give names such as "train+val" or "2007:trainval+2012:trainval"'
            )
        pairs.extend((given, name) for given in ([year] if colon else years))
    return tuple(pairs)


@dataclass(frozen=True)
class _Image:
    year_folder: Path
    name: str  # without suffix

    @property
    def image_id(self) -> int:
        return int(self.name.replace("_", ""))


def _listed(root: Path, splits: tuple[tuple[str, str], ...]) -> tuple[_Image, ...]:
    listed_in: dict[_Image, str] = {}
    for year, split in splits:
        folder = year_folder(root, year)
        file = _split_file(folder, split)
        names = _lines(file)
        if not names:
            raise UserError(f"{file}: split is empty")
        for name in names:
            check_name(name, file)
            image = _Image(folder, name)
            if image in listed_in:
                raise UserError(f"{file}: image {name} was already listed in {listed_in[image]}")
            listed_in[image] = split
    return tuple(listed_in)


def year_folder(root: Path, year: str) -> Path:
    """``VOC2007`` of a VOCdevkit folder, or of one that holds it."""
    for folder in (root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}"):
        if folder.is_dir():
            return folder
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; expected VOCdevkit, with VOC{year} in it")
    within = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    present = sorted(path.name for path in within.iterdir())[:8]
    raise UserError(
        f"{within}: no VOC{year} folder; expected VOC{year}/ImageSets/Main in it, "
        f"found {', '.join(present) or 'nothing'}"
    )


def split_names(folder: Path, split: str) -> list[str]:
    """The image names in a year's split file, unchecked."""
    return _lines(_split_file(folder, split))


def check_name(name: str, where: object) -> None:
    """Refuses what is a class's own list ("000012 -1"), or not VOC, or not even a name."""
    if not re.fullmatch(r"(\d{4}_)?\d{6}", name):
        raise UserError(f'{where}: "{name}" is not a VOC image name such as 000005 or 2008_000005')


def _split_file(folder: Path, split: str) -> Path:
    lists = folder / "ImageSets" / "Main"
    if not lists.is_dir():
        raise UserError(f"{lists}: no such folder; a VOC year keeps its splits there")
    names = sorted(path.stem for path in lists.glob("*.txt"))
    if split not in names:
        raise UserError(f'no split "{split}" in {lists}{did_you_mean(split, names)}')
    return lists / f"{split}.txt"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}") from error


def _annotations(image: _Image, difficult: Difficult) -> Annotations:
    path = image.year_folder / "Annotations" / f"{image.name}.xml"
    tree = read_tree(path)
    elements = tree.findall("object")
    # Ids are given before any object is dropped: they do not depend on how difficult is handled.
    ids = object_ids(image.image_id, len(elements))
    marked = np.array([read_difficult(element, path) for element in elements], dtype=np.bool_)
    labels = np.array([read_label(element, path) for element in elements], dtype=np.int64)
    boxes = np.array([read_box(element, path) for element in elements], dtype=np.float64)
    boxes = boxes.reshape(-1, 4)
    kept = ~marked if difficult == "drop" else np.ones_like(marked)
    return Annotations(
        image_id=image.image_id,
        file_name=f"{image.name}.jpg",
        width=read_size(tree, "width", path),
        height=read_size(tree, "height", path),
        boxes=boxes[kept],
        labels=labels[kept],
        ignore=marked[kept] & (difficult == "ignore"),
        areas=box_areas(boxes)[kept],
        ids=ids[kept],
    )


def read_tree(path: Path) -> ET.Element:
    """The parsed file of one image's annotations."""
    try:
        return ET.fromstring(path.read_bytes(), ET.XMLParser(target=_PlainTree()))  # noqa: S314
    except FileNotFoundError:
        raise UserError(f"{path}: annotation file is missing") from None
    # The last two: a declared encoding that does not exist, or that the parser does not take.
    except (OSError, ET.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{path}: not well-formed XML: {error}") from error


class _PlainTree(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse the one place where XML defines entities, before any is expanded."""
        raise ValueError(f"a DOCTYPE ({name}) has no place in a VOC annotation")


def read_label(element: ET.Element, path: Path) -> int:
    """The index of an object's class."""
    name = (element.findtext("name") or "").strip()
    if name not in CLASSES:
        raise UserError(f'{path}: "{name}" is not a VOC class{did_you_mean(name, CLASSES)}')
    return CLASSES.index(name)


def read_box(element: ET.Element, path: Path) -> tuple[float, float, float, float]:
    """The box of an object, xyxy in continuous pixels."""
    # Direct children only: VOC2012 nests the boxes of heads, hands and feet in <part> elements.
    corners = [element.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
    try:
        left, top, right, bottom = (float(corner or "") for corner in corners)
    except ValueError:
        raise UserError(f"{path}: xmin, ymin, xmax, ymax of an object are {corners}") from None
    # Written so that NaN fails too.
    if not (-np.inf < left <= right < np.inf and -np.inf < top <= bottom < np.inf):
        raise UserError(f"{path}: xmin, ymin, xmax, ymax of an object are {corners}: no box")
    return left - 1, top - 1, right, bottom


def read_difficult(element: ET.Element, path: Path) -> bool:
    """Whether an object is marked as difficult."""
    text = element.findtext("difficult", default="0").strip()
    if text not in ("0", "1"):
        raise UserError(f'{path}: "difficult" is "{text}"; expected 0 or 1')
    return text == "1"


def read_size(tree: ET.Element, side: str, path: Path) -> int:
    """The width or height of the image, as annotated."""
    text = (tree.findtext(f"size/{side}") or "").strip()
    if not re.fullmatch(r"[1-9]\d{0,6}", text):
        raise UserError(f'{path}: size/{side} is "{text}"; expected a number of pixels')
    return int(text)

"""PASCAL VOC, and data sets in its form: folders, splits, and one XML file per image."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.data.dataset import Annotations, FileDataset, box_areas, digest_id, object_ids
from detector.data.formats.fields import Difficult, check_difficult, mark, number, pixels, shown
from detector.data.image_files import SUFFIXES, Exif, find_image, image_size
from detector.disk.bounded import SETTINGS, read_bounded
from detector.errors import UserError, did_you_mean, no_folder

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

# So many annotation files are looked at before a data set counts as VOC's own.
_FIRST = 64


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


def parse_split(split: str) -> tuple[tuple[str, str], ...]:
    """(year, split file) pairs of ``"2007:trainval+2012:trainval"``; "" where no year is given."""
    pairs: list[tuple[str, str]] = []
    for part in split.split("+"):
        year, colon, name = part.strip().rpartition(":")
        if not name or (colon and not re.fullmatch(r"\d{4}", year)):
            raise UserError(
                f'VOC split "{split}" is not understood at "{part}"; '
                'give names such as "train+val" or "2007:trainval+2012:trainval"'
            )
        pairs.append((year, name))
    return tuple(pairs)


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
        file = _split_file(folder, split)
        lines = _lines(file)
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


def devkit_folder(root: Path, year: str, split: str) -> Path:
    """A year's folder as ``year_folder`` finds it, or ``root`` where that is one itself.

    Without a ``year`` it is that of the only year there; ``UserError`` where there are several.
    """
    if (root / "Annotations").is_dir() and (root / "ImageSets" / "Main").is_dir():
        return root
    if year:
        return year_folder(root, year)
    held = sorted({one.name[3:] for place in (root, root / "VOCdevkit")
                   for one in place.glob("VOC[0-9][0-9][0-9][0-9]")})  # fmt: skip
    if len(held) > 1:
        written = " or ".join(f"{one}:{split}" for one in held)
        raise UserError(f'{root} holds several years; give split "{split}" as {written}')
    return year_folder(root, held[0] if held else "2007")


def year_folder(root: Path, year: str) -> Path:
    """``VOC2007`` of a VOCdevkit folder, or of one that holds it."""
    for folder in (root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}"):
        if folder.is_dir():
            return folder
    if not root.is_dir():
        raise no_folder(root, f"expected VOCdevkit, with VOC{year} in it")
    within = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    present = sorted(path.name for path in within.iterdir())[:8]
    raise UserError(
        f"{within}: no VOC{year} folder; expected VOC{year}/ImageSets/Main in it, "
        f"found {', '.join(present) or 'nothing'}"
    )


def splits_in(root: Path) -> list[str]:
    """The splits of a VOCdevkit folder, or of one year's, as ``parse_split`` takes them; nothing
    where there are none. The lists of single classes (``dog_train``) are left out."""
    places = [("", root)] + [
        (f"{year.name[3:]}:", year)
        for place in (root, root / "VOCdevkit")
        for year in sorted(place.glob("VOC[0-9][0-9][0-9][0-9]"))
    ]
    return [
        f"{prefix}{one.stem}"
        for prefix, folder in places
        for one in sorted((folder / "ImageSets" / "Main").glob("*.txt"))
        if "_" not in one.stem
    ]


def split_names(folder: Path, split: str) -> list[str]:
    """The image names in a year's split file, unchecked."""
    return _lines(_split_file(folder, split))


def read_name(line: str, where: object) -> str:
    """The image name, without suffix, in a line of a split file.

    UserError for a class's own list ("000012 -1"), or what leads out of the folder of images.
    """
    name = line
    for suffix in SUFFIXES:
        if line.lower().endswith(suffix):
            name = line[: -len(suffix)]
    if re.search(r"^(\d{4}_)?\d{6}\s+[01]$|\s-1$", line):
        raise UserError(
            f"{where}: {shown(line)} is a line of a class's list, which marks the images that "
            "show the class; give the list of all images, such as train in place of dog_train"
        )
    leads_out = name in ("", ".", "..") or re.search(r"[/\\:]", name)
    if leads_out or not name.isprintable() or len(name) > 200:
        raise UserError(
            f"{where}: {shown(line)} is not a VOC image name such as 000005 or 2008_000005"
        )
    return name


def find_classes(folders: Iterable[Path]) -> tuple[str, ...]:
    """VOC's classes; or, of a data set that has its own, the names in its annotations, sorted.

    All annotations of the years are looked at, not those of a split alone, so that every split has
    the same classes. Names that are like one of VOC's, beside such, are misspelled: they make no
    data set one with classes of its own.
    """
    files = [
        path for one in dict.fromkeys(folders) for path in sorted(one.glob("Annotations/*.xml"))
    ]
    if _names(files[:_FIRST]) <= set(CLASSES):
        return CLASSES  # without reading the thousands of files that VOC has
    found = _names(files)
    own = found - set(CLASSES)
    misspelled = own < found and all(did_you_mean(name, CLASSES) for name in own)
    return CLASSES if misspelled else tuple(sorted(found))


def notes_on(classes: Sequence[str], where: str) -> tuple[str, ...]:
    if tuple(classes) == CLASSES:
        return ()
    few = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    count = f"{len(classes)} class{'es' if len(classes) > 1 else ''}"
    return (f"{where}: {count} of its own, as its annotations name them: {few}",)


def read_classes(path: Path) -> tuple[str, ...]:
    """The class names in a text file, one in each line."""
    names = _lines(path)
    if not names:
        raise UserError(f"{path}: no class names in it; expected one in each line")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{path}: class {shown(name)} is there twice")
    return tuple(names)


def _names(files: Iterable[Path]) -> set[str]:
    """The class names in annotation files; whoever reads a file that is none will say so."""
    found = set()
    for path in files:
        try:
            tree = read_tree(path)
        except UserError:
            continue
        found |= {(one.findtext("name") or "").strip() for one in tree.findall("object")}
    return found - {""}


def _split_file(folder: Path, split: str) -> Path:
    lists = folder / "ImageSets" / "Main"
    if not lists.is_dir():
        raise no_folder(lists, "a VOC year keeps its splits there")
    names = sorted(path.stem for path in lists.glob("*.txt"))
    if split not in names:
        raise UserError(f'no split "{split}" in {lists}{did_you_mean(split, names)}')
    return lists / f"{split}.txt"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).split("\n") if line.strip()]


def _text(path: Path) -> str:
    try:
        return read_bounded(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}") from error


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


def read_tree(path: Path) -> ET.Element:
    """The parsed file of one image's annotations."""
    try:
        return ET.fromstring(read_bounded(path, SETTINGS), ET.XMLParser(target=_PlainTree()))  # noqa: S314
    except FileNotFoundError:
        raise UserError(f"{path}: annotation file is missing") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    # The last two: a declared encoding that does not exist, or that the parser does not take.
    except (ET.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{path}: not well-formed XML: {error}") from error


class _PlainTree(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse the one place where XML defines entities, before any is expanded."""
        raise ValueError(f"a DOCTYPE ({name}) has no place in a VOC annotation")


def read_label(element: ET.Element, path: Path, classes: tuple[str, ...] = CLASSES) -> int:
    """The index of an object's class."""
    name = (element.findtext("name") or "").strip()
    if name in classes:
        return classes.index(name)
    near = did_you_mean(name, classes)
    if classes == CLASSES:
        hint = "" if near else "; a file of class names (classes) reads others"
        raise UserError(f"{path}: {shown(name)} is not a VOC class{near}{hint}")
    raise UserError(f"{path}: {shown(name)} is none of the {len(classes)} classes{near}")


def read_box(element: ET.Element, path: Path) -> tuple[float, float, float, float]:
    """The box of an object, xyxy in continuous pixels."""
    # Direct children only: VOC2012 nests the boxes of heads, hands and feet in <part> elements.
    corners = [element.findtext(f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")]
    found = [one for one in map(number, corners) if one is not None]
    if len(found) < 4 or found[0] > found[2] or found[1] > found[3]:
        raise UserError(f"{path}: xmin, ymin, xmax, ymax of an object are {corners}: no box")
    left, top, right, bottom = found
    return left - 1, top - 1, right, bottom


def read_difficult(element: ET.Element, path: Path) -> bool:
    """Whether an object is marked as difficult."""
    text = element.findtext("difficult")
    marked = mark(text)
    if marked is None:
        raise UserError(f'{path}: "difficult" is {shown(text)}; expected 0 or 1')
    return marked


def read_size(tree: ET.Element, path: Path, image: Path, exif: Exif) -> tuple[int, int]:
    """Width and height of the image, as annotated; where nothing is, or 0, the image tells."""
    sides = {side: (tree.findtext(f"size/{side}") or "").strip() for side in ("width", "height")}
    if set(sides.values()) <= {"", "0"}:
        try:
            return image_size(image, exif)
        except UserError as error:
            raise UserError(f"{path} has no size of the image, and {error}") from None
    for side, text in sides.items():
        if pixels(text) is None:
            raise UserError(f"{path}: size/{side} is {shown(text)}; expected a number of pixels")
    return int(sides["width"]), int(sides["height"])

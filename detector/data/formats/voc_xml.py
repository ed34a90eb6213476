"""What a file of PASCAL VOC says of one image: its size, and the objects in it."""

import xml.etree.ElementTree as ET
from pathlib import Path

from detector.data.formats.fields import mark, number, pixels, shown
from detector.data.image_files import Exif, image_size
from detector.disk.bounded import SETTINGS, read_bounded
from detector.errors import UserError, did_you_mean

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


def read_tree(path: Path) -> ET.Element:
    """The parsed file of one image's annotations."""
    try:
        tree = ET.fromstring(read_bounded(path, SETTINGS), ET.XMLParser(target=_PlainTree()))  # noqa: S314
    except FileNotFoundError:
        raise UserError(f"{path}: annotation file is missing") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    # The last two: a declared encoding that does not exist, or that the parser does not take.
    except (ET.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{path}: not well-formed XML: {error}") from error
    # Of anything else, such as a web page or another tool's format, no object would be found.
    if tree.tag.lower() != "annotation":
        raise UserError(f"{path}: its root is {shown(tree.tag)}; expected annotation, as of VOC")
    if any(one.find("object") is not None for one in tree.iter() if one is not tree):
        raise UserError(f"{path}: an object lies in another element; expected all in annotation")
    return tree


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
    if len(element.findall("bndbox")) > 1:
        raise UserError(f"{path}: an object has several boxes (bndbox); expected one")
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

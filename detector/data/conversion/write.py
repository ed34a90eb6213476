"""A data set as files of another format: COCO's JSON, PASCAL VOC's folders or YOLO's.

Boxes, classes and what is to be ignored are kept as far as the format can hold them; ``notes`` say
what it cannot. Boxes on whole pixels, or on any multiple of 2^-20 of one, come back as they were.
"""

import json
import shutil
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from detector.data.dataset import Annotations, Dataset, box_areas, file_of, is_labelled
from detector.data.formats.fields import shown
from detector.data.formats.voc import read_name
from detector.data.image_files import SUFFIXES
from detector.errors import UserError, did_you_mean
from detector.yaml_values import write_yaml

Format = Literal["coco", "voc", "yolo"]
FORMATS: tuple[Format, ...] = get_args(Format)

_SHARE = 2.0  # of the image's side: what is beyond no reader of YOLO's labels takes for a share


@dataclass
class _Lost:
    """What the format does not hold, counted."""

    counts: Counter[str] = field(default_factory=Counter)

    def notes(self) -> list[str]:
        return [f"{what} ({count:,})" for what, count in self.counts.items() if count]


def convert(
    dataset: Dataset,
    to: str,
    place: Path,
    split: str,
    *,
    link: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> list[str]:
    """Writes a data set of files into an empty folder; returns notes on what is not as it was.

    Args:
        to: of ``FORMATS``.
        split: how it is called there, which COCO has no word for.
        link: images as symbolic links to where they are, not as copies.
        advance: is told of every image.

    Raises:
        UserError: an unknown format, nothing to write, or a name that the format cannot hold.
    """
    if to not in FORMATS:
        raise UserError(f'to is "{to}"; expected {", ".join(FORMATS)}{did_you_mean(to, FORMATS)}')
    if not is_labelled(dataset):
        raise UserError("these images have no annotations to convert")
    if to != "coco":
        _check_classes(dataset.classes, to)
    images = [dataset.annotations(index) for index in range(len(dataset))]
    names, notes = file_names(images)
    lost = _Lost()
    folder = {"coco": "images", "voc": "JPEGImages", "yolo": f"images/{split}"}[to]
    (place / folder).mkdir(parents=True)
    for index, name in enumerate(names):
        _put(file_of(dataset, index), place / folder / name, link=link)
        advance()
    {"coco": _coco, "voc": _voc, "yolo": _yolo}[to](dataset, images, names, place, split, lost)
    return [*notes, *lost.notes()]


def file_names(images: Sequence[Annotations]) -> tuple[list[str], list[str]]:
    """For each image the name of its file, without folders, and a note where that is not its own.

    Every format reads these: image ids take the place of names that one of them does not, or that
    differ in their folders or suffixes alone.
    """
    paths = [Path(one.file_name) for one in images]
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"{shown(str(path))}: images of this suffix are found by no other format; expected "
                f"{', '.join(SUFFIXES)}"
            )
    counts = Counter(path.stem.casefold() for path in paths)
    twice = next((path.stem for path in paths if counts[path.stem.casefold()] > 1), None)
    odd = next((path.stem for path in paths if not _is_plain(path.stem)), None)
    if twice is None and odd is None:
        return [path.name for path in paths], []
    why = (
        f"two images are called {shown(twice)}" if odd is None else f"{shown(odd)} is no plain name"
    )
    names = [f"{one.image_id:012d}{path.suffix}" for one, path in zip(images, paths, strict=True)]
    return names, [f"images are named by their ids, since {why}"]


def _is_plain(stem: str) -> bool:
    try:
        return read_name(stem, "") == stem == stem.strip() and not stem.startswith(".")
    except UserError:
        return False


def _check_classes(classes: Sequence[str], to: str) -> None:
    for name in classes:
        if name != name.strip() or not name.isprintable():
            raise UserError(
                f"the class {shown(name)} cannot be written: names of {to.upper()} are a line of "
                "text without spaces around it"
            )


def _put(source: Path, destination: Path, *, link: bool) -> None:
    if not source.is_file():
        raise UserError(f"{source}: image file is missing")
    if link:
        destination.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, destination)


def _coco(
    dataset: Dataset,
    images: Sequence[Annotations],
    names: Sequence[str],
    place: Path,
    split: str,
    lost: _Lost,
) -> None:
    rows = []
    for one in images:
        exact = one.boxes[:, :2] + (one.boxes[:, 2:] - one.boxes[:, :2]) == one.boxes[:, 2:]
        lost.counts["boxes are rounded in their last bit: COCO keeps sizes, not corners"] += int(
            (~exact.all(axis=1)).sum()
        )
        lost.counts[
            "objects to ignore (difficult ones, crowds) are marked as iscrowd, which every reader "
            "of COCO passes over"
        ] += int(one.ignore.sum())
        for box, label, ignore, area, key in zip(
            one.boxes.tolist(), one.labels, one.ignore, one.areas, one.ids, strict=True
        ):
            left, top, right, bottom = box
            rows.append(
                {
                    "id": int(key),
                    "image_id": one.image_id,
                    "category_id": dataset.category_ids[label],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(area),
                    "iscrowd": int(ignore),
                }
            )
    document = {
        "images": [
            {"id": one.image_id, "file_name": name, "width": one.width, "height": one.height}
            for one, name in zip(images, names, strict=True)
        ],
        "annotations": rows,
        "categories": [
            {"id": key, "name": name}
            for key, name in zip(dataset.category_ids, dataset.classes, strict=True)
        ],
    }
    (place / "instances.json").write_text(json.dumps(document), encoding="utf-8")


def _voc(
    dataset: Dataset,
    images: Sequence[Annotations],
    names: Sequence[str],
    place: Path,
    split: str,
    lost: _Lost,
) -> None:
    (place / "Annotations").mkdir()
    (place / "ImageSets/Main").mkdir(parents=True)
    _count_ids(dataset, lost)
    for one, name in zip(images, names, strict=True):
        tree = ET.Element("annotation")
        _add(tree, filename=name)
        _add(ET.SubElement(tree, "size"), width=one.width, height=one.height, depth=3)
        _count_areas(one, lost)
        lost.counts["objects to ignore (difficult ones, crowds) are marked as difficult"] += int(
            one.ignore.sum()
        )
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        lost.counts["boxes thinner than a pixel are a pixel wide, as VOC has none thinner"] += int(
            (sides < 1).any(axis=1).sum()
        )
        for box, label, ignore, (width, height) in zip(
            one.boxes.tolist(), one.labels, one.ignore, sides.tolist(), strict=True
        ):
            left, top, right, bottom = box
            thing = ET.SubElement(tree, "object")
            _add(thing, name=dataset.classes[label], difficult=int(ignore))
            # VOC counts pixels from 1 and includes the last.
            _add(
                ET.SubElement(thing, "bndbox"),
                xmin=_number(left + 1),
                ymin=_number(top + 1),
                xmax=_number(right if width >= 1 else left + 1),
                ymax=_number(bottom if height >= 1 else top + 1),
            )
        ET.indent(tree)
        path = place / "Annotations" / f"{Path(name).stem}.xml"
        path.write_bytes(ET.tostring(tree, encoding="utf-8") + b"\n")
    stems = "".join(f"{Path(name).stem}\n" for name in names)
    (place / "ImageSets/Main" / f"{split}.txt").write_text(stems, encoding="utf-8")
    listed = "".join(f"{name}\n" for name in dataset.classes)
    (place / "classes.txt").write_text(listed, encoding="utf-8")


def _yolo(
    dataset: Dataset,
    images: Sequence[Annotations],
    names: Sequence[str],
    place: Path,
    split: str,
    lost: _Lost,
) -> None:
    labels = place / "labels" / split
    labels.mkdir(parents=True)
    _count_ids(dataset, lost)
    for one, name in zip(images, names, strict=True):
        _count_areas(one, lost)
        size = np.array([one.width, one.height], dtype=np.float64)
        low, high = one.boxes[:, :2], one.boxes[:, 2:]
        shares = np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=1)
        far = (np.abs(shares) > _SHARE).any(axis=1)
        lost.counts[
            "regions to ignore (crowds, difficult objects) are left out, as YOLO marks none; "
            "--difficult keep writes difficult ones as objects"
        ] += int(one.ignore.sum())
        lost.counts["boxes that lie far outside their image are left out"] += int(
            (far & ~one.ignore).sum()
        )
        rows = [
            f"{label} {' '.join(map(repr, values))}\n"
            for label, values, out in zip(
                one.labels.tolist(), shares.tolist(), far | one.ignore, strict=True
            )
            if not out
        ]
        path = labels / f"{Path(name).stem}.txt"
        path.write_text("".join(rows), encoding="utf-8")
    values = {split: f"images/{split}", "names": dict(enumerate(dataset.classes))}
    (place / "data.yaml").write_text(write_yaml(values), encoding="utf-8")


def _count_ids(dataset: Dataset, lost: _Lost) -> None:
    count = len(dataset.classes)
    if dataset.category_ids != tuple(range(1, count + 1)):
        lost.counts["category ids are lost: classes count from 1, in their order"] += count


def _count_areas(one: Annotations, lost: _Lost) -> None:
    own = ~one.ignore & (np.abs(one.areas - box_areas(one.boxes)) > 1e-3 * one.areas + 1e-6)
    lost.counts[
        "objects have an area other than their box's, such as that of a mask, which is lost: their "
        "box's tells whether they are small, medium or large"
    ] += int(own.sum())


def _add(element: ET.Element, **values: object) -> None:
    for name, value in values.items():
        ET.SubElement(element, name).text = str(value)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)

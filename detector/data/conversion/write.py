"""A data set as files of another format: COCO's JSON, PASCAL VOC's folders or YOLO's.

Boxes, classes and what is to be ignored are kept as far as the format can hold them; ``notes`` say
what it cannot. Boxes on whole pixels, or on any multiple of 2^-20 of one, come back as they were.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from detector.data.conversion import coco_file, voc_folder, yolo_folder
from detector.data.conversion.dataset_files import DatasetFiles
from detector.data.dataset import Annotations, Dataset, file_of, is_labelled
from detector.data.formats.fields import shown
from detector.data.formats.voc_devkit import read_name
from detector.data.image_files import SUFFIXES
from detector.errors import UserError, did_you_mean

Format = Literal["coco", "voc", "yolo"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WRITERS = {"coco": coco_file.write, "voc": voc_folder.write, "yolo": yolo_folder.write}


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
    folder = {"coco": "images", "voc": "JPEGImages", "yolo": f"images/{split}"}[to]
    (place / folder).mkdir(parents=True)
    for index, name in enumerate(names):
        # By a wrong size shares of the sides would be others.
        source = file_of(dataset, index, checked=True)
        if link:
            (place / folder / name).symlink_to(source.resolve())
        else:
            shutil.copyfile(source, place / folder / name)
        advance()
    files = DatasetFiles(dataset, images, names, place, split)
    _WRITERS[to](files)
    return [*notes, *files.notes()]


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
    odd = next((path.stem for path in paths if not is_plain(path.stem)), None)
    if twice is None and odd is None:
        return [path.name for path in paths], []
    why = (
        f"two images are called {shown(twice)}" if odd is None else f"{shown(odd)} is no plain name"
    )
    names = [f"{one.image_id:012d}{path.suffix}" for one, path in zip(images, paths, strict=True)]
    return names, [f"images are named by their ids, since {why}"]


def is_plain(stem: str) -> bool:
    """Whether every format reads a file of this name."""
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

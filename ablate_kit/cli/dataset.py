"""The options that name a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ablate_kit.cli.output import warn
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from detector.data.dataset import Dataset
    from detector.data.fields import Difficult
    from detector.data.image_files import Exif

Orientation = Annotated[
    str | None,
    typer.Option("--exif", help="EXIF orientation of images: ignore (default) or apply."),
]
VocClasses = Annotated[
    Path | None,
    typer.Option(help="Class names of the VOC data, one per line; by default told from it."),
]


def open_dataset(
    annotations: Path | None,
    images: Path | None,
    voc: Path | None,
    split: str | None,
    difficult: str | None,
    shapes: bool,
    count: int | None,
    *,
    exif: str | None = None,
    voc_classes: Path | None = None,
) -> "Dataset":
    """The data set that a command's options name, or its first ``count`` images."""
    from detector.data.coco import Coco
    from detector.data.dataset import limit, notes_on
    from detector.data.voc import Voc, read_classes
    from detector.training.recipe import ShapesData

    if sum((annotations is not None, voc is not None, shapes)) != 1:
        raise UserError(
            "give one data set: --annotations with --images, --voc with --split, or --shapes"
        )
    if (annotations is None) != (images is None):
        raise UserError("--annotations and --images go together")
    if (voc is None) != (split is None):
        raise UserError("--voc and --split go together, such as --voc VOCdevkit --split 2007:test")
    if shapes and (difficult or exif):
        option = "--difficult" if difficult else "--exif"
        raise UserError(f"{option} has no effect on --shapes; it goes with COCO and VOC data")
    if voc_classes and not voc:
        raise UserError("--voc-classes goes with --voc")
    treated, turned = cast("Difficult", difficult or "ignore"), cast("Exif", exif or "ignore")
    dataset: Dataset
    if annotations and images:
        dataset = Coco(annotations, images, difficult=treated, exif=turned)
    elif voc and split:
        names = read_classes(voc_classes) if voc_classes else None
        dataset = Voc(voc, split, difficult=treated, classes=names, exif=turned)
    else:
        _, dataset = ShapesData(kind="shapes").datasets()
    warn(notes_on(dataset))
    return limit(dataset, count) if count else dataset

"""The options that name a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ablate_kit.cli.output import warn
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    from detector.data.dataset import Dataset
    from detector.training.recipes.data_sections import OneSet

Orientation = Annotated[
    str | None,
    typer.Option("--exif", help="EXIF orientation of images: ignore (default) or apply."),
]
VocClasses = Annotated[
    Path | None,
    typer.Option(help="Class names of the VOC data, one per line; by default told from it."),
]
Split = Annotated[
    str | None, typer.Option(help="VOC split, such as 2007:test; of --yolo: val (default) ...")
]
YoloYaml = Annotated[Path | None, typer.Option("--yolo", help="YOLO's data.yaml.")]
YoloRoot = Annotated[
    Path | None, typer.Option(help="Folder of the YOLO data; by default as data.yaml says.")
]
Annotations = Annotated[Path | None, typer.Option(help="COCO JSON.")]
ImageFolder = Annotated[
    Path | None,
    typer.Option("--images", help="Image folder of the COCO JSON; alone: images without labels."),
]
Devkit = Annotated[Path | None, typer.Option("--voc", help="VOCdevkit folder.")]
Difficult = Annotated[
    str | None,
    typer.Option(help="Difficult objects: ignore (default; VOC does), keep, drop."),
]
Shapes = Annotated[bool, typer.Option("--shapes", help="The built-in data set.")]
Limit = Annotated[int | None, typer.Option(help="Only the first N images.", min=1)]


def images_given(
    annotations: Path | None,
    images: Path | None,
    voc: Path | None,
    split: str | None,
    difficult: str | None = None,
    shapes: bool = False,
    count: int | None = None,
    *,
    exif: str | None = None,
    voc_classes: Path | None = None,
    yolo: Path | None = None,
    yolo_root: Path | None = None,
) -> "OneSet":
    """The data set that a command's options name, or its first ``count`` images."""
    from detector.training.recipes.data_sections import (
        CocoImages,
        FolderImages,
        ShapesImages,
        VocImages,
        YoloImages,
    )

    if sum((bool(annotations or images), bool(voc), bool(yolo), shapes)) != 1:
        raise UserError(
            "give one data set: --annotations with --images, --voc with --split, --yolo, --shapes, "
            "or --images alone"
        )
    if annotations and not images:
        raise UserError("--annotations and --images go together")
    if split and not (voc or yolo):
        raise UserError("--split goes with --voc or --yolo")
    if voc and split is None:
        raise UserError("--voc and --split go together, such as --voc VOCdevkit --split 2007:test")
    if shapes and (difficult or exif):
        option = "--difficult" if difficult else "--exif"
        raise UserError(f"{option} has no effect on --shapes; it goes with COCO and VOC data")
    if yolo and difficult:
        raise UserError("--difficult has no effect on --yolo, whose labels mark no object so")
    if images and difficult and not annotations:
        raise UserError("--difficult has no effect on --images alone, where nothing is annotated")
    if voc_classes and not voc:
        raise UserError("--voc-classes goes with --voc")
    if yolo_root and not yolo:
        raise UserError("--yolo-root goes with --yolo")
    treated: dict[str, Any] = {"difficult": difficult or "ignore", "exif": exif or "ignore"}
    # Not validated: the data sets tell what is no way to treat objects or images.
    if annotations:
        return CocoImages.model_construct(
            annotations=str(annotations), images=str(images), limit=count, **treated
        )
    if images:
        return FolderImages.model_construct(images=str(images), limit=count, exif=treated["exif"])
    if voc:
        names = str(voc_classes) if voc_classes else None
        return VocImages.model_construct(
            root=str(voc), split=split, classes=names, limit=count, **treated
        )
    if yolo:
        root = str(yolo_root) if yolo_root else None
        return YoloImages.model_construct(
            yaml=str(yolo), split=split or "val", root=root, limit=count, exif=treated["exif"]
        )
    return ShapesImages(limit=count)


def open_dataset(given: "OneSet") -> "Dataset":
    """The data set, after what its reader has to say of it."""
    from detector.data.dataset import notes_on

    dataset = given.dataset()
    warn(notes_on(dataset))
    return dataset

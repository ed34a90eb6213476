"""The options that name a data set."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from typer import Option

from ablate_kit.cli.early import check_files
from ablate_kit.cli.output import warn
from ablate_kit.errors import UserError
from ablate_kit.plural import first_few
from detector.disk.visible import visible
from detector.errors import check_can_write, no_folder

if TYPE_CHECKING:
    from detector.data.dataset import Dataset
    from detector.training.recipes.data_sections import OneSet

_SMALL = 1 << 20  # bytes of JSON that are read twice

Orientation = Annotated[
    str | None,
    Option("--exif", help="What to do with images' EXIF orientation: ignore (default) or apply."),
]
Annotations = Annotated[Path | None, Option(help="COCO annotations (JSON).")]
Devkit = Annotated[Path | None, Option("--voc", help="PASCAL VOC data: a VOCdevkit folder.")]
Split = Annotated[
    str | None, Option(help="Split of --voc, such as 2007:test, or of --yolo (val by default).")
]
VocClasses = Annotated[
    Path | None, Option(help="Class names of --voc, one to a line; by default read from the data.")
]
YoloYaml = Annotated[Path | None, Option("--yolo", help="YOLO data: its data.yaml.")]
YoloRoot = Annotated[
    Path | None, Option(help="Folder of --yolo's data, where data.yaml names another.")
]
Difficult = Annotated[
    str | None,
    Option(help="What to do with difficult objects: ignore (default, as VOC), keep, drop."),
]


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Images in files, with or without annotations."""

    PANEL: ClassVar[str] = "Data"

    annotations: Annotations = None
    images: Annotated[
        Path | None,
        Option(
            help="Images of --annotations, by default beside that file; alone: a folder of images "
            "without labels."
        ),
    ] = None
    voc: Devkit = None
    split: Split = None
    yolo: YoloYaml = None
    yolo_root: YoloRoot = None
    exif: Orientation = None
    voc_classes: VocClasses = None
    limit: Annotated[int | None, Option(help="Take only the first N images.", min=1)] = None

    def __post_init__(self) -> None:
        """What takes no time to find is told before anything is imported, or a model is made."""
        check_files(self.annotations, self.yolo, self.voc_classes)
        for folder, expected in (
            (self.images, f"expected the images of {self.annotations or 'a data set'}"),
            (self.voc, "expected a VOCdevkit"),
            (self.yolo_root, "expected the folder of the data"),
        ):
            if folder and not folder.is_dir():
                raise no_folder(folder, expected)
        if self.annotations and self.annotations.is_dir():
            files = [one.name for one in visible(self.annotations, "*.json*")]
            there = f"; name its file {first_few(files, 4)}" if files else ""
            raise UserError(f"{self.annotations} is a folder, and annotations are a file{there}")
        file = self.annotations
        if file and file.is_file() and file.stat().st_size < _SMALL:
            from detector.data.formats.instances import read_document

            read_document(file)

    def named(self) -> bool:
        """Whether a data set is given."""
        return any((self.annotations, self.images, self.voc, self.yolo))

    def any(self) -> bool:
        """Whether any of the options is given."""
        return any(getattr(self, one.name) != one.default for one in fields(self))

    def given(self) -> "OneSet":
        """The data set that the options name."""
        return _one_set(self)

    def open(self) -> "Dataset":
        """The same, opened, after what its reader has to say of it."""
        from detector.data.dataset import notes_on

        dataset = self.given().dataset()
        warn(notes_on(dataset))
        return dataset


@dataclass(frozen=True, kw_only=True)
class Images(ImageFiles):
    """What a model is run on, where nothing is evaluated."""

    shapes: Annotated[bool, Option("--shapes", help="Built-in data: generated shapes.")] = False

    def named(self) -> bool:
        return self.shapes or super().named()


@dataclass(frozen=True, kw_only=True)
class AnnotatedFiles(ImageFiles):
    """Annotations of which some may be marked as difficult."""

    difficult: Difficult = None


@dataclass(frozen=True, kw_only=True)
class DataOptions(AnnotatedFiles, Images):
    """What a model is evaluated on."""

    def to_evaluate(self, device: str, output: Path | None) -> "Dataset":
        """The data set opened, after what else takes less time to find than a model to make."""
        from ablate_kit.models.inference.device import check_device
        from detector.data.dataset import check_scorable

        if output:
            check_can_write(output)
        check_device(device)
        dataset = self.open()
        check_scorable(dataset)
        return dataset


def _one_set(options: ImageFiles) -> "OneSet":
    from detector.training.recipes.data_sections import (
        CocoImages,
        FolderImages,
        ShapesImages,
        VocImages,
        YoloImages,
    )

    shapes = isinstance(options, Images) and options.shapes
    difficult = options.difficult if isinstance(options, AnnotatedFiles) else None
    _check_together(options, difficult, shapes)
    annotations, images, voc, yolo = options.annotations, options.images, options.voc, options.yolo
    # Not validated: the data sets tell what is no way to treat objects or images.
    treated: dict[str, Any] = {"exif": options.exif or "ignore", "limit": options.limit}
    marked = treated | {"difficult": difficult or "ignore"}
    if annotations:
        images = images or annotations.parent
        return CocoImages.model_construct(
            annotations=str(annotations), images=str(images), **marked
        )
    if images:
        return FolderImages.model_construct(images=str(images), **treated)
    if voc:
        names = str(options.voc_classes) if options.voc_classes else None
        return VocImages.model_construct(
            root=str(voc), split=options.split, classes=names, **marked
        )
    if yolo:
        root = str(options.yolo_root) if options.yolo_root else None
        return YoloImages.model_construct(
            yaml=str(yolo), split=options.split or "val", root=root, **treated
        )
    return ShapesImages(limit=options.limit)


def _images_in(folder: Path) -> bool:
    """Whether images lie in a folder, as those of Roboflow's exports lie beside annotations."""
    from detector.data.image_files import SUFFIXES

    return any(one.suffix.lower() in SUFFIXES for one in visible(folder))


def _check_together(options: ImageFiles, difficult: str | None, shapes: bool) -> None:
    """Raises ``UserError`` for options that do not go together."""
    annotations, images, voc, yolo = options.annotations, options.images, options.voc, options.yolo
    if sum((bool(annotations or images), bool(voc), bool(yolo), shapes)) != 1:
        raise UserError(
            "give one data set: --annotations with --images, --voc with --split, --yolo, --shapes, "
            "or --images alone"
        )
    if annotations and not images and not _images_in(annotations.parent):
        raise UserError(f"--annotations and --images go together: no image is beside {annotations}")
    if options.split and not (voc or yolo):
        raise UserError("--split goes with --voc or --yolo")
    if voc and options.split is None:
        from detector.data.formats.voc_devkit import splits_in

        known = splits_in(voc)
        there = f"; there are {first_few(known, 6)}" if known else ""
        raise UserError(
            f"--voc and --split go together, such as --voc {voc} --split "
            f"{known[0] if known else '2007:test'}{there}"
        )
    if shapes and (difficult or options.exif):
        option = "--difficult" if difficult else "--exif"
        raise UserError(f"{option} has no effect on --shapes; it goes with COCO and VOC data")
    if yolo and difficult:
        raise UserError("--difficult has no effect on --yolo, whose labels mark no object so")
    if images and difficult and not annotations:
        raise UserError("--difficult has no effect on --images alone, where nothing is annotated")
    if options.voc_classes and not voc:
        raise UserError("--voc-classes goes with --voc")
    if options.yolo_root and not yolo:
        raise UserError("--yolo-root goes with --yolo")

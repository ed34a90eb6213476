"""The data sections of recipes: one set of images, or one to train on and one to evaluate on."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from detector.data.dataset import Dataset, check_learnable, limit, sample
from detector.data.formats.coco import Coco
from detector.data.formats.fields import Difficult
from detector.data.formats.image_folder import ImageFolder
from detector.data.formats.voc import Voc
from detector.data.formats.voc_classes import read_classes
from detector.data.formats.yolo import Yolo
from detector.data.image_files import Exif
from detector.data.shapes import Shapes
from detector.errors import UserError
from detector.training.recipes.recipe_file import Count, Natural, Section

if TYPE_CHECKING:
    from detector.data.checks.dataset_check import CheckedSource


class _Files(Section):
    """What the formats of files have in common."""

    difficult: Difficult = "ignore"
    exif: Exif = "ignore"


class CocoImages(_Files):
    """COCO JSON annotations and their image folder."""

    kind: Literal["coco"] = "coco"
    annotations: str | None = None
    images: str | None = None
    limit: Count | None = None
    sample: Count | None = None  # so many of these, drawn by lot, always the same

    def paths(self) -> tuple[Path, Path]:
        annotations, images = _given("PATH", self.model_dump(include={"annotations", "images"}))
        return annotations, images

    def dataset(self) -> Dataset:
        found = Coco(*self.paths(), difficult=self.difficult, exif=self.exif)
        return _limited(found, self.limit, self.sample)

    def source(self) -> "CheckedSource":
        """For a check of all that is there."""
        from detector.data.checks.check_coco import CocoSource

        return CocoSource(*self.paths(), self.difficult, self.exif)


class VocImages(_Files):
    """PASCAL VOC; splits are written ``2007:trainval+2012:trainval``."""

    kind: Literal["voc"] = "voc"
    root: str | None = None
    split: str = "2007:test"
    classes: str | None = None  # file of class names; by default told from the annotations
    limit: Count | None = None
    sample: Count | None = None  # so many of these, drawn by lot, always the same

    def dataset(self) -> Dataset:
        found = Voc(
            self._root(),
            self.split,
            difficult=self.difficult,
            classes=self._names(),
            exif=self.exif,
        )
        return _limited(found, self.limit, self.sample)

    def source(self) -> "CheckedSource":
        """For a check of all that is there."""
        from detector.data.checks.check_voc import VocSource

        return VocSource(self._root(), self.split, self.difficult, self._names(), self.exif)

    def _root(self) -> Path:
        (root,) = _given("FOLDER (the VOCdevkit)", {"root": self.root})
        return root

    def _names(self) -> tuple[str, ...] | None:
        return read_classes(Path(self.classes)) if self.classes else None


class YoloImages(Section):
    """A YOLO ``data.yaml``; ``root`` is the data set's folder where the file lies elsewhere."""

    kind: Literal["yolo"] = "yolo"
    yaml: str | None = None
    split: str = "val"
    root: str | None = None
    exif: Exif = "ignore"
    limit: Count | None = None
    sample: Count | None = None  # so many of these, drawn by lot, always the same

    def dataset(self) -> Dataset:
        found = Yolo(self._yaml(), self.split, self.root, exif=self.exif)
        return _limited(found, self.limit, self.sample)

    def source(self) -> "CheckedSource":
        """For a check of all that is there."""
        from detector.data.checks.check_yolo import YoloSource

        return YoloSource(self._yaml(), self.split, self.root, self.exif)

    def _yaml(self) -> Path:
        (yaml,) = _given("FILE", {"yaml": self.yaml})
        return yaml


class FolderImages(Section):
    """A folder of images without annotations."""

    kind: Literal["images"] = "images"
    images: str | None = None
    exif: Exif = "ignore"
    limit: Count | None = None
    sample: Count | None = None

    def dataset(self) -> Dataset:
        (folder,) = _given("FOLDER", {"images": self.images})
        return _limited(ImageFolder(folder, self.exif), self.limit, self.sample)


class ShapesImages(Section):
    """The built-in synthetic data set."""

    kind: Literal["shapes"] = "shapes"
    part: Literal["train", "val"] = "val"
    count: Count = 200
    seed: Natural = 1
    limit: Count | None = None
    sample: Count | None = None  # so many of these, drawn by lot, always the same

    def dataset(self) -> Dataset:
        found = Shapes(self.count, seed=self.seed, split=("train", "val").index(self.part))
        return _limited(found, self.limit, self.sample)


OneSet = CocoImages | VocImages | YoloImages | FolderImages | ShapesImages
ImagesSection = Annotated[OneSet, Field(discriminator="kind")]
_IMAGES: TypeAdapter[OneSet] = TypeAdapter(ImagesSection)


def images_noted(values: Mapping[str, Any]) -> OneSet:
    """A section as a run has noted it.

    Raises Pydantic's ``ValidationError`` for anything else.
    """
    return _IMAGES.validate_python(values)


class _Pair(Section):
    """One set to train on and one to evaluate on."""

    def parts(self) -> tuple[OneSet, OneSet]:
        raise NotImplementedError

    def datasets(self) -> tuple[Dataset, Dataset]:
        training, validation = (part.dataset() for part in self.parts())
        check_learnable(training)
        return training, validation


class CocoData(_Files, _Pair):
    """COCO JSON annotations and their image folders."""

    kind: Literal["coco"]
    train_annotations: str | None = None
    train_images: str | None = None
    val_annotations: str | None = None
    val_images: str | None = None
    train_limit: Count | None = None
    val_limit: Count | None = None

    def parts(self) -> tuple[CocoImages, CocoImages]:
        paths = ("train_annotations", "train_images", "val_annotations", "val_images")
        _given("PATH", self.model_dump(include=set(paths)))
        common = self.model_dump(include={"difficult", "exif"})
        train: dict[str, Any] = {"annotations": self.train_annotations, "images": self.train_images}
        val: dict[str, Any] = {"annotations": self.val_annotations, "images": self.val_images}
        return (
            CocoImages(**train, **common, limit=self.train_limit),
            CocoImages(**val, **common, limit=self.val_limit),
        )


class VocData(_Files, _Pair):
    """PASCAL VOC."""

    kind: Literal["voc"]
    root: str | None = None
    train: str = "2007:trainval+2012:trainval"
    val: str = "2007:test"
    train_limit: Count | None = None
    val_limit: Count | None = None
    classes: str | None = None

    def parts(self) -> tuple[VocImages, VocImages]:
        common = self.model_dump(include={"root", "classes", "difficult", "exif"})
        return (
            VocImages(split=self.train, limit=self.train_limit, **common),
            VocImages(split=self.val, limit=self.val_limit, **common),
        )


class YoloData(_Pair):
    """A YOLO ``data.yaml``."""

    kind: Literal["yolo"]
    yaml: str | None = None
    train: str = "train"
    val: str = "val"
    root: str | None = None
    exif: Exif = "ignore"
    train_limit: Count | None = None
    val_limit: Count | None = None

    def parts(self) -> tuple[YoloImages, YoloImages]:
        common = self.model_dump(include={"yaml", "root", "exif"})
        return (
            YoloImages(split=self.train, limit=self.train_limit, **common),
            YoloImages(split=self.val, limit=self.val_limit, **common),
        )


class ShapesData(_Pair):
    """The built-in synthetic data set."""

    kind: Literal["shapes"]
    train: Count = 4000
    val: Count = 200
    seed: Natural = 1

    def parts(self) -> tuple[ShapesImages, ShapesImages]:
        return (
            ShapesImages(part="train", count=self.train, seed=self.seed),
            ShapesImages(part="val", count=self.val, seed=self.seed),
        )


def _given(kind: str, paths: dict[str, str | None]) -> list[Path]:
    for name, value in paths.items():
        if value is None:
            raise UserError(f"data.{name} is not set: give --set data.{name}={kind}")
    return [Path(str(value)) for value in paths.values()]


def _limited(dataset: Dataset, count: int | None, drawn: int | None) -> Dataset:
    some = dataset if count is None else limit(dataset, count)
    return some if drawn is None else sample(some, drawn)

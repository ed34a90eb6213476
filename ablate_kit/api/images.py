"""Annotated images, as ``ablate eval`` and recipes take them."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

from ablate_kit.api.keywords import by_keyword
from ablate_kit.plural import counted
from detector.data.dataset import Dataset
from detector.training.recipes.data_sections import (
    CocoImages,
    FolderImages,
    OneSet,
    ShapesImages,
    VocImages,
    YoloImages,
)
from detector.training.recipes.recipe_file import Given, validated

Path = str | PathLike[str]


@dataclass(frozen=True)
class Images:
    """A data set, and how a recipe would name it.

    Attributes:
        dataset: images (H, W, 3) of 8 bits in RGB; boxes in pixels of the image, xyxy.
        section: as ``data`` of a recipe, so that a report finds the photographs again.
    """

    dataset: Dataset
    section: OneSet

    def __repr__(self) -> str:
        given = self.section.model_dump(exclude_defaults=True, exclude={"kind"})
        said = "".join(f", {name}={one!r}" for name, one in given.items())
        return f"<Images: {self.section.kind}{said}; {counted(len(self), 'image')}>"

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.dataset.classes)


def coco(
    annotations: Path,
    images: Path,
    *,
    limit: int | None = None,
    difficult: str = "ignore",
    exif: str = "ignore",
) -> Images:
    """Images with annotations in COCO's JSON.

    Args:
        annotations: the JSON file, plain or gzipped.
        images: folder of the images that it names.
        limit: only the first so many images.
        difficult: what becomes of objects marked so: ``ignore``, ``keep``, ``drop``.
        exif: whether the orientation in EXIF is applied (``apply``) or not (``ignore``).

    Raises:
        UserError: a file is missing or not what it should be; it is named.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.coco("instances_val2017.json", "val2017", limit=100)  # doctest: +SKIP
    """
    files = {"annotations": annotations, "images": images}
    return _images(CocoImages, files, limit=limit, difficult=difficult, exif=exif)


def voc(
    root: Path,
    split: str = "2007:test",
    *,
    limit: int | None = None,
    difficult: str = "ignore",
    exif: str = "ignore",
    classes: Path | None = None,
) -> Images:
    """A PASCAL VOC folder, or one laid out like it.

    Args:
        root: the folder ``VOCdevkit``.
        split: year and list of images, such as ``2007:test``.
        limit, difficult, exif: as of ``coco``.
        classes: file of class names, one per line; by default told from the data.

    Raises:
        UserError: a file is missing or not what it should be; it is named.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.voc("VOCdevkit", "2007:val")  # doctest: +SKIP
    """
    files = {"root": root, "classes": classes}
    return _images(VocImages, files, split=split, limit=limit, difficult=difficult, exif=exif)


def yolo(
    data_yaml: Path,
    split: str = "val",
    *,
    root: Path | None = None,
    limit: int | None = None,
    exif: str = "ignore",
) -> Images:
    """A YOLO ``data.yaml``, with a label file beside each image or in a folder ``labels``.

    Args:
        data_yaml: names the classes and, for each split, a folder of images or a list of them.
        split: ``train``, ``val`` or ``test``.
        root: the data set's folder. By default it is ``path`` of the file, which has to lie in the
            file's own folder.
        limit, exif: as of ``coco``.

    Raises:
        UserError: a file is missing or not what it should be; it is named.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.yolo("data.yaml", "test")  # doctest: +SKIP
    """
    return _images(
        YoloImages, {"yaml": data_yaml, "root": root}, split=split, limit=limit, exif=exif
    )


def images(folder: Path, *, limit: int | None = None, exif: str = "ignore") -> Images:
    """Images without labels: what the unmodified model finds in them stands for their objects.

    Every number then tells how far a variant is from the unmodified model, which is 1 throughout,
    and none which of the two is right.

    Args:
        folder: of the images; all below it count.
        limit, exif: as of ``coco``.

    Raises:
        UserError: there are none.

    Examples:
        >>> import ablate_kit as ak
        >>> ak.images("photographs", limit=200)  # doctest: +SKIP
    """
    return _images(FolderImages, {"images": folder}, limit=limit, exif=exif)


def shapes(limit: int | None = None) -> Images:
    """The built-in synthetic validation images: 200, the same bytes on every machine.

    Examples:
        >>> import ablate_kit as ak
        >>> len(ak.shapes(limit=20))
        20
    """
    return _images(ShapesImages, {}, limit=limit)


@by_keyword()
def _images(kind: type[OneSet], files: Mapping[str, Path | None], **settings: Any) -> Images:
    named = {name: fspath(one) for name, one in files.items() if one is not None}
    given = named | {name: one for name, one in settings.items() if one is not None}
    made = validated(kind, Given(given, "data", {}))
    return Images(made.dataset(), made)

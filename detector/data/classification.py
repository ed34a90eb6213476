"""Images with one class each: folders, a Hugging Face data set, or generated ones."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from detector.data.dataset import Pixels
from detector.data.image_files import decode, to_rgb
from detector.data.shapes import Shapes
from detector.disk.visible import visible
from detector.errors import UserError, did_you_mean, no_folder
from detector.extras import missing

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# Of the context around an object of the shapes data set: side of the crop over its longer side.
_CONTEXT = 1.4


class LabeledImages(Protocol):
    """Images of one class each, in a fixed order."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> int:
        """The class of image ``index``; decodes no image."""

    def name(self, index: int) -> str:
        """What tells image ``index`` from others, wherever the data set lies."""

    def image(self, index: int) -> Pixels:
        """(height, width, 3) RGB."""


class ImageFolders:
    """One folder per class, named after it, with its images anywhere below.

    Classes are the sorted names of the folders that ``root`` holds, and images are sorted by path.
    ``classes`` gives the order of an earlier split: then a folder with another name is a mistake.
    """

    def __init__(self, root: str | Path, classes: Sequence[str] | None = None) -> None:
        self._root = root = Path(root)
        if not root.is_dir():
            raise no_folder(root, "expected one folder per class in it")
        found = [path.name for path in visible(root) if path.is_dir()]
        if not found:
            raise UserError(f"{root}: holds no folders; expected one per class")
        self.classes = tuple(classes or found)
        for name in found:
            if name not in self.classes:
                near = did_you_mean(name, self.classes)
                raise UserError(f'{root}: "{name}" is no class of the training images{near}')
        self._images: list[tuple[Path, int]] = []
        for name in found:
            paths = [p for p in visible(root / name, "**/*") if p.suffix.lower() in SUFFIXES]
            if not paths:
                raise UserError(f"{root / name}: no images; expected files {', '.join(SUFFIXES)}")
            self._images += [(path, self.classes.index(name)) for path in paths]

    def __len__(self) -> int:
        return len(self._images)

    def label(self, index: int) -> int:
        return self._images[index][1]

    def name(self, index: int) -> str:
        return self._images[index][0].relative_to(self._root).as_posix()

    def image(self, index: int) -> Pixels:
        return decode(self._images[index][0])


class HuggingFaceImages:
    """A split of a data set of the Hugging Face hub, or of a local folder in its layout.

    Needs the extra ``imagenet``. Classes are the names of the label column; else what it holds:
    texts in their order, or the numbers from 0. ``classes`` gives the order of an earlier split:
    then an image of another class is a mistake.
    """

    def __init__(
        self,
        name: str,
        split: str,
        image: str = "image",
        label: str = "label",
        classes: Sequence[str] | None = None,
    ) -> None:
        self._rows = _load(name, split)
        self._image, self._name = image, name
        columns = self._rows.column_names
        for column in (image, label):
            if column not in columns:
                near = did_you_mean(column, columns)
                raise UserError(f'{name} has no column "{column}", but {", ".join(columns)}{near}')
        names = getattr(self._rows.features[label], "names", None)
        known, found = _classes_of(list(self._rows[label]), names, f'{name}, split "{split}"')
        self.classes = tuple(classes or known)
        index = {one: i for i, one in enumerate(self.classes)}
        for one in dict.fromkeys(found):
            if one not in index:
                near = did_you_mean(one, self.classes)
                raise UserError(
                    f'{name}, split "{split}": "{one}" is no class of the training images{near}'
                )
        self._labels = [index[one] for one in found]

    def __len__(self) -> int:
        return len(self._labels)

    def label(self, index: int) -> int:
        return self._labels[index]

    def name(self, index: int) -> str:
        return str(index)

    def image(self, index: int) -> Pixels:
        image: Any = self._rows[index][self._image]
        if isinstance(image, list):  # some mirrors wrap it
            image = image[0]
        if not isinstance(image, Image.Image):
            image = Image.fromarray(np.asarray(image))
        return np.array(to_rgb(image, f"image {index} of {self._name}"))


class ShapeCrops:
    """The largest object of each image of the shapes data set, with some of what is around it."""

    classes = Shapes.classes

    def __init__(self, count: int, seed: int = 0, split: int = 0) -> None:
        self._shapes = Shapes(count, seed=seed, split=split)

    def __len__(self) -> int:
        return len(self._shapes)

    def label(self, index: int) -> int:
        objects = self._shapes.annotations(index)
        return int(objects.labels[objects.areas.argmax()])

    def name(self, index: int) -> str:
        return str(index)

    def image(self, index: int) -> Pixels:
        objects = self._shapes.annotations(index)
        x0, y0, x1, y1 = objects.boxes[objects.areas.argmax()].tolist()
        side = min(round(_CONTEXT * max(x1 - x0, y1 - y0)), objects.width, objects.height)
        left = _shifted((x0 + x1 - side) / 2, objects.width - side)
        top = _shifted((y0 + y1 - side) / 2, objects.height - side)
        return self._shapes.image(index)[top : top + side, left : left + side]


class First:
    """The first ``count`` images of each class, so that a part of a data set is one, too."""

    def __init__(self, images: LabeledImages, count: int) -> None:
        self._inner = images
        self.classes = images.classes
        seen = [0] * len(images.classes)
        self._indices = []
        for index in range(len(images)):
            label = images.label(index)
            seen[label] += 1
            if seen[label] <= count:
                self._indices.append(index)

    def __len__(self) -> int:
        return len(self._indices)

    def label(self, index: int) -> int:
        return self._inner.label(self._indices[index])

    def name(self, index: int) -> str:
        return self._inner.name(self._indices[index])

    def image(self, index: int) -> Pixels:
        return self._inner.image(self._indices[index])


def digest(images: LabeledImages) -> str:
    """Of names and labels, in their order; no image is read."""
    found = hashlib.sha256()
    for index in range(len(images)):
        found.update(
            f"{images.label(index)} {images.name(index)}\0".encode(errors="surrogateescape")
        )
    return found.hexdigest()


def _shifted(start: float, room: int) -> int:
    return min(max(round(start), 0), room)


def _classes_of(
    labels: Sequence[object], names: Sequence[str] | None, where: str
) -> tuple[Sequence[str], list[str]]:
    """All classes of a column of labels, and the one of each row."""
    texts = [one for one in labels if isinstance(one, str)]
    numbers = [one for one in labels if type(one) is int]
    most = len(names) if names else max(numbers, default=0) + 1
    for row, one in enumerate(labels):
        if not (isinstance(one, str) if texts else type(one) is int and 0 <= one < most):
            hidden = " (of a split without labels?)" if one in (-1, None) else ""
            raise UserError(
                f"{where}: the label of image {row} is {one!r:.80}{hidden}; "
                "expected numbers from 0, or names"
            )
    if texts:
        return sorted(set(texts)), texts
    known = names or [str(number) for number in range(most)]
    return known, [known[number] for number in numbers]


def _load(name: str, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise missing("data.kind huggingface", "datasets") from None
    try:
        return datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f'cannot load the split "{split}" of "{name}": {reason}') from None

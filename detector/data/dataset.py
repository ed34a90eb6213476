"""What every data set gives: images, and their annotations as plain arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from detector.errors import UserError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotated objects of one image; the arrays are read-only."""

    image_id: int
    file_name: str
    width: int  # pixels
    height: int
    boxes: Floats  # (n, 4) xyxy in pixels; (0, 0) is the outer corner of the first pixel
    labels: Integers  # (n,) index into Dataset.classes
    ignore: Flags  # (n,) no training target, and not counted in evaluation
    areas: Floats  # (n,) square pixels: the data set's own area where it has one, else the box's
    ids: Integers  # (n,) unique in the data set, never 0

    def __post_init__(self) -> None:
        # Data sets hand out arrays that they keep: a caller writing to one would change the data.
        for array in (self.boxes, self.labels, self.ignore, self.areas, self.ids):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)


class Dataset(Protocol):
    """Annotated images in a fixed order."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The id that files of annotations or results use for each class, in the same order."""

    def __len__(self) -> int: ...

    def annotations(self, index: int) -> Annotations:
        """The objects of image ``index``; decodes no image."""

    def image(self, index: int) -> Pixels:
        """(height, width, 3) RGB, a fresh array."""

    def stored(self, index: int) -> bytes:
        """What the image is read from, such as the bytes of its file; decodes nothing."""


def subset(dataset: Dataset, indices: Iterable[int]) -> Dataset:
    """The images at ``indices`` of ``dataset``, in that order; IndexError where there is none."""
    chosen = tuple(indices)
    outside = [index for index in chosen if not 0 <= index < len(dataset)]
    if outside:
        raise IndexError(f"no image {outside[0]} in a data set of {len(dataset)}")
    return _Subset(dataset, chosen)


def limit(dataset: Dataset, count: int) -> Dataset:
    """The first ``count`` images of ``dataset``, or all where it has fewer."""
    if count < 1:
        raise UserError(f"cannot limit a data set to {count} images; give 1 or more")
    return subset(dataset, range(min(count, len(dataset))))


def sample(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """``count`` images that follow from the seed and the size of ``dataset`` alone, in its order.

    All where it has fewer. A larger sample with the same seed holds the smaller one.
    """
    if count < 1:
        raise UserError(f"cannot sample {count} images of a data set; give 1 or more")
    order = np.random.default_rng(seed).permutation(len(dataset))
    return subset(dataset, sorted(order[:count].tolist()))


def object_ids(image_id: int, count: int) -> Integers:
    """(count,) annotation ids for a format that has none: ``image_id * 10000 + 1, + 2, ...``.

    They follow from the image alone, so an object keeps its id in every split and subset, and no
    other image has to be read to give it.
    """
    return image_id * 10_000 + np.arange(1, count + 1, dtype=np.int64)


def box_areas(boxes: Floats) -> Floats:
    """(n,) areas of (n, 4) xyxy boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def read_image(path: Path, width: int, height: int) -> Pixels:
    """The stored pixels of an image file as (height, width, 3) RGB.

    EXIF orientation is not applied: COCO and VOC boxes refer to the stored pixels. An alpha
    channel is dropped. UserError where the file is missing, does not decode, or has another size
    than its annotation gives.
    """
    pixels = decode(path)
    check_size(path, pixels, width, height)
    return pixels


def stored_image(path: Path) -> bytes:
    """The bytes of an image file; UserError where it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: image file is missing") from None
    except OSError as error:
        raise UserError(f"{path}: image cannot be read: {error.strerror or error}") from None


def check_size(path: Path, image: Pixels, width: int, height: int) -> None:
    """Refuses an image of another size than its annotation gives."""
    if image.shape[:2] != (height, width):
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise UserError(f"{path}: image is {found}, its annotation says {width}x{height}")


def decode(path: Path) -> Pixels:
    """(height, width, 3) RGB, as ``read_image`` gives it, of whatever size."""
    try:
        with Image.open(path) as image:
            return np.array(_to_rgb(image))
    except FileNotFoundError:
        raise UserError(f"{path}: image file is missing") from None
    # Pillow's plug-ins report a broken file by any of these.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: image does not decode: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if "transparency" in image.info:  # a palette with alpha: Pillow warns on the direct way
        image = image.convert("RGBA")
    return image.convert("RGB")


@dataclass(frozen=True)
class _Subset:
    dataset: Dataset
    indices: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def category_ids(self) -> tuple[int, ...]:
        return self.dataset.category_ids

    def __len__(self) -> int:
        return len(self.indices)

    def annotations(self, index: int) -> Annotations:
        return self.dataset.annotations(self.indices[index])

    def image(self, index: int) -> Pixels:
        return self.dataset.image(self.indices[index])

    def stored(self, index: int) -> bytes:
        return self.dataset.stored(self.indices[index])

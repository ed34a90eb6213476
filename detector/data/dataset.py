"""What every data set gives: images, and their annotations as plain arrays."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detector.data.image_files import Exif, check_exif, check_stored_size, missing, stored_image
from detector.data.image_files import Pixels as Pixels
from detector.data.image_files import decode as decode
from detector.data.image_files import read_image as read_image
from detector.errors import UserError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


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
        """What the image is read from, such as the bytes of its file; decodes nothing. Where these
        are the same, and the size, so are the pixels."""


class FileDataset(ABC):
    """The part of a ``Dataset`` that all of those share whose images are files.

    What has it says where each ``file`` is. ``exif``: see ``detector.data.image_files``.
    """

    def __init__(self, exif: Exif) -> None:
        check_exif(exif)
        self._exif = exif

    @abstractmethod
    def annotations(self, index: int) -> Annotations:
        """The objects of image ``index``; decodes no image."""

    @abstractmethod
    def file(self, index: int) -> Path:
        """Where image ``index`` is."""

    def image(self, index: int) -> Pixels:
        sides = self.annotations(index)
        return read_image(self.file(index), sides.width, sides.height, self._exif)

    def stored(self, index: int) -> bytes:
        return stored_image(self.file(index), self._exif)

    def checked_file(self, index: int) -> Path:
        """``file``; UserError where it has another size than is annotated."""
        path, sides = self.file(index), self.annotations(index)
        check_stored_size(path, sides.width, sides.height, self._exif)
        return path


def notes_on(dataset: Dataset) -> tuple[str, ...]:
    """What its reader has to say of a data set: no mistakes, but nothing to keep quiet about."""
    if isinstance(dataset, _Subset):
        return (*notes_on(dataset.dataset), *dataset.notes)
    return getattr(dataset, "notes", ())


def is_labelled(dataset: Dataset) -> bool:
    """Whether anybody said what is in the images; they may all be without objects still."""
    if isinstance(dataset, _Subset):
        return is_labelled(dataset.dataset)
    return bool(getattr(dataset, "labelled", True))


def file_of(dataset: Dataset, index: int, *, checked: bool = False) -> Path:
    """Where an image of a data set of files is; ``checked``: that has the annotated size."""
    if isinstance(dataset, _Subset):
        return file_of(dataset.dataset, dataset.indices[index], checked=checked)
    of: FileDataset = dataset  # type: ignore[assignment]
    return of.checked_file(index) if checked else of.file(index)


def is_of_files(dataset: Dataset) -> bool:
    """Whether its images are files, which may be others by now, and not drawn when asked for."""
    return hasattr(whole(dataset), "file")


def whole(dataset: Dataset) -> Dataset:
    """What a data set is a part of."""
    return whole(dataset.dataset) if isinstance(dataset, _Subset) else dataset


def with_whole(dataset: Dataset, change: Callable[[Dataset], Dataset]) -> Dataset:
    """The same images of what ``change`` makes of that which ``dataset`` is a part of."""
    if isinstance(dataset, _Subset):
        return replace(dataset, dataset=with_whole(dataset.dataset, change))
    return change(dataset)


def rest(dataset: Dataset) -> Dataset:
    """The images of what ``dataset`` is a part of that are not in it; perhaps none."""
    inside: Iterable[int] = range(len(dataset))
    while isinstance(dataset, _Subset):
        inside = [dataset.indices[index] for index in inside]
        dataset = dataset.dataset
    return subset(dataset, sorted(set(range(len(dataset))) - set(inside)))


def has_objects(dataset: Dataset) -> bool:
    """Whether there is anything to learn, or to be found; objects to ignore are not.

    Stops at the first object: of a data set with one file per image few are read.
    """
    return any(not dataset.annotations(index).ignore.all() for index in range(len(dataset)))


def check_learnable(dataset: Dataset) -> None:
    """Refuses a training set without an object to learn."""
    if not is_labelled(dataset):
        raise UserError("these images have no labels to learn from")
    if not has_objects(dataset):
        raise UserError(f"none of the {len(dataset):,} training images has an object to learn")


def check_scorable(dataset: Dataset) -> None:
    """Refuses a labelled data set without any object, to be found or ignored, and one of files of
    which some are missing: a run may come to the first of these after hours."""
    if is_labelled(dataset) and not any(
        len(dataset.annotations(index)) for index in range(len(dataset))
    ):
        none = f"none of the {len(dataset):,} images has an object"
        raise UserError(f"{none}, so there is nothing to score against")
    if not is_of_files(dataset):
        return
    paths = (file_of(dataset, index) for index in range(len(dataset)))
    if gone := [path for path in paths if not path.exists()]:
        more, rest = len(gone) - 1, len(dataset) - 1
        many = f"{more:,} of the other {rest:,} images" if more < rest else "all others"
        raise missing(gone[0], f", as {'is' if more == 1 else 'are'} {many}" if more else "")


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
    return _Subset(dataset, tuple(range(min(count, len(dataset)))), _too_few(dataset, count))


def shuffled(dataset: Dataset, seed: int = 0) -> Dataset:
    """All images of ``dataset`` in an order that follows from the seed and their number."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    return subset(dataset, order.tolist())


def sample(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """``count`` images that follow from the seed and the size of ``dataset`` alone, in its order.

    All where it has fewer. A larger sample with the same seed holds the smaller one.
    """
    if count < 1:
        raise UserError(f"cannot sample {count} images of a data set; give 1 or more")
    order = np.random.default_rng(seed).permutation(len(dataset))
    return _Subset(dataset, tuple(sorted(order[:count].tolist())), _too_few(dataset, count))


def _too_few(dataset: Dataset, asked: int) -> tuple[str, ...]:
    there = len(dataset)
    return () if asked <= there else (f"{asked:,} images are asked for, and there are {there:,}",)


def object_ids(image_id: int, count: int) -> Integers:
    """(count,) annotation ids for a format that has none: ``image_id * 10000 + 1, + 2, ...``.

    They follow from the image alone, so an object keeps its id in every split and subset, and no
    other image has to be read to give it.
    """
    return image_id * 10_000 + np.arange(1, count + 1, dtype=np.int64)


def image_ids(names: Sequence[str]) -> tuple[int, ...]:
    """Ids for a format that has none, of files by their paths: the numbers that their names are,
    and digests of the paths for others, and for all that have one number."""
    numbers = [
        int(stem) if re.fullmatch(r"[0-9]{1,12}", stem := PurePosixPath(name).stem) else None
        for name in names
    ]
    counts = Counter(numbers)
    return tuple(
        digest_id(name) if own is None or counts[own] > 1 else own
        for name, own in zip(names, numbers, strict=True)
    )


def digest_id(name: str) -> int:
    """Of an image without a number: 48 bits, as ids of objects are this times 10,000, in 64."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest())


def box_areas(boxes: Floats) -> Floats:
    """(n,) areas of (n, 4) xyxy boxes."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


@dataclass(frozen=True)
class _Subset:
    dataset: Dataset
    indices: tuple[int, ...]
    notes: tuple[str, ...] = ()

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

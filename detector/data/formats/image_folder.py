"""Images alone: a folder, and all below it, without annotations."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.data.dataset import Annotations, Dataset, FileDataset, Pixels, image_ids
from detector.data.image_files import SUFFIXES, Exif, image_size
from detector.disk.visible import is_hidden
from detector.errors import UserError, no_folder


class ImageFolder(FileDataset):
    """The images in a folder and all below it, by name; what is hidden is passed over.

    There are no objects, and no classes: nobody has looked at them yet. Image ids are the numbers
    that the files' names are, else digests of their paths.
    """

    labelled = False
    classes: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()

    def __init__(self, folder: str | Path, exif: Exif) -> None:
        super().__init__(exif)
        self._folder = Path(folder)
        self._names = images_in(self._folder)
        self._ids = image_ids(self._names)
        self._sizes: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def annotations(self, index: int) -> Annotations:
        if index not in self._sizes:
            self._sizes[index] = image_size(self.file(index), self._exif)
        width, height = self._sizes[index]
        none = np.zeros(0, dtype=np.int64)
        return Annotations(
            image_id=self._ids[index],
            file_name=self._names[index],
            width=width,
            height=height,
            boxes=np.zeros((0, 4)),
            labels=none,
            ignore=np.zeros(0, dtype=np.bool_),
            areas=np.zeros(0),
            ids=none,
        )

    def file(self, index: int) -> Path:
        return self._folder / self._names[index]


@dataclass(frozen=True)
class WithClasses:
    """Images without annotations that are looked at for these classes."""

    dataset: Dataset
    classes: tuple[str, ...]
    labelled: bool = field(default=False, init=False)

    @property
    def category_ids(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.classes) + 1))

    def __len__(self) -> int:
        return len(self.dataset)

    def annotations(self, index: int) -> Annotations:
        return self.dataset.annotations(index)

    def image(self, index: int) -> Pixels:
        return self.dataset.image(index)

    def stored(self, index: int) -> bytes:
        return self.dataset.stored(index)


def images_in(folder: Path) -> Sequence[str]:
    """The same as ``images_below``; ``UserError`` where there are none."""
    if not folder.is_dir():
        raise no_folder(folder, "expected images")
    names = images_below(folder, folder)
    if not names:
        raise UserError(f"{folder}: no images in it; expected files of {', '.join(SUFFIXES)}")
    return names


def images_below(place: Path, root: Path) -> Sequence[str]:
    """The images in a folder and all below it: names in ``root``, sorted.

    Links to folders are followed after all else, into each folder once: they may lead in circles.
    """
    found, seen, waiting = [], set[str](), [place]
    for start in waiting:
        for at, folders, files in os.walk(start):
            known = os.path.realpath(at) in seen
            seen.add(os.path.realpath(at))
            folders[:] = [one for one in folders if not (known or is_hidden(one))]
            waiting += [link for one in sorted(folders) if (link := Path(at, one)).is_symlink()]
            for name in () if known else files:
                if name.lower().endswith(SUFFIXES) and not is_hidden(name):
                    found.append(Path(at, name).relative_to(root).as_posix())
    return sorted(found)

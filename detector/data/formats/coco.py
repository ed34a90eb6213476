"""COCO: an ``instances_*.json`` file and a folder of images."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from detector.data.dataset import Annotations, FileDataset, Integers
from detector.data.formats.fields import Difficult
from detector.data.formats.instances import read_instances
from detector.data.image_files import Exif
from detector.errors import UserError, no_folder


class Coco(FileDataset):
    """The images of a COCO annotation file, in its order.

    ``annotation_file`` is JSON, plain or gzipped. Classes are the categories by ascending id,
    also those without an object. ``iscrowd`` becomes ``ignore``, and so does a ``difficult`` that
    some writers add, unless ``difficult="keep"`` makes those ordinary objects or ``"drop"`` leaves
    them out. Boxes are as written, not clipped to the image. ``keep_ids`` restricts the data set
    to the images with these ids; an image without annotations is an image like any other. How
    images are decoded, ``exif`` included: ``detector.data.image_files``.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_folder: str | Path,
        keep_ids: Collection[int] | None = None,
        difficult: Difficult = "ignore",
        exif: Exif = "ignore",
    ) -> None:
        super().__init__(exif)
        path = Path(annotation_file)
        self._folder = Path(image_folder)
        if not self._folder.is_dir():
            raise no_folder(self._folder, f"expected the images of {path}")
        self._found = found = read_instances(path, difficult, with_files=True)
        self.classes, self.category_ids = found.classes, found.category_ids
        self.notes = found.notes
        self._images = np.arange(len(found.image_ids))
        if keep_ids is not None:
            self._images = _kept(found.image_ids, keep_ids, path)
        # Sorted by image: the objects of an image are one slice.
        self._starts = np.searchsorted(found.image, np.arange(len(found.image_ids) + 1))
        self._boxes = found.corners

    def __len__(self) -> int:
        return len(self._images)

    def annotations(self, index: int) -> Annotations:
        found, image = self._found, self._images[index]
        own = slice(self._starts[image], self._starts[image + 1])
        return Annotations(
            image_id=int(found.image_ids[image]),
            file_name=found.file_names[image],
            width=int(found.widths[image]),
            height=int(found.heights[image]),
            boxes=self._boxes[own],
            labels=found.labels[own],
            ignore=found.ignore[own],
            areas=found.areas[own],
            ids=found.ids[own],
        )

    def file(self, index: int) -> Path:
        return self._folder / self._found.file_names[self._images[index]]


def _kept(image_ids: Integers, keep_ids: Collection[int], path: Path) -> Integers:
    known = set(image_ids.tolist())
    unknown = [one for one in keep_ids if one not in known]
    if unknown:
        raise UserError(f"{path}: no image with id {unknown[0]} to keep")
    kept = np.flatnonzero(np.isin(image_ids, np.array(list(keep_ids), dtype=np.int64)))
    if not len(kept):
        raise UserError(f"{path}: no images in it to keep")
    return kept

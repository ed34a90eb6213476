"""COCO annotations and their images, to be looked at for problems."""

from collections import Counter
from pathlib import Path

import numpy as np

from detector.data.checks.dataset_check import Entry, Object, Problem
from detector.data.formats.fields import Difficult, shown
from detector.data.formats.instances import read_instances
from detector.data.image_files import Exif, check_exif
from detector.errors import no_folder


class CocoSource:
    """The images of a COCO file; what is no such file at all is a UserError still."""

    def __init__(
        self,
        annotation_file: Path,
        image_folder: Path,
        difficult: Difficult = "ignore",
        exif: Exif = "ignore",
    ) -> None:
        check_exif(exif)
        if not image_folder.is_dir():
            raise no_folder(image_folder, "expected images")
        self.name = f"COCO {annotation_file.name}"
        self.problems: list[Problem] = []
        self._exif = exif
        self._path, self._folder = annotation_file, image_folder
        self._found = read_instances(
            annotation_file,
            difficult,
            with_files=True,
            tell=lambda kind, message: self.problems.append(Problem(kind, message)),
        )
        self.classes, self.notes = self._found.classes, list(self._found.notes)
        for name, count in Counter(self._found.file_names).items():
            if count > 1:
                problem = f"{count} images have the file_name {shown(name)}"
                self.problems.append(Problem("duplicate", f"{annotation_file}: {problem}"))
        self._starts = np.searchsorted(self._found.image, np.arange(len(self) + 1))

    def __len__(self) -> int:
        return len(self._found.image_ids)

    def entry(self, index: int) -> Entry:
        found = self._found
        entry = Entry(
            self._folder / found.file_names[index],
            int(found.widths[index]),
            int(found.heights[index]),
            exif=self._exif,
        )
        for one in range(self._starts[index], self._starts[index + 1]):
            where = f"{self._path}: annotations[{found.rows[one]}] (id {found.ids[one]})"
            x, y, width, height = found.boxes[one].tolist()
            box = x, y, x + width, y + height
            entry.objects.append(
                Object(where, int(found.labels[one]), box, bool(found.ignore[one]))
            )
        return entry

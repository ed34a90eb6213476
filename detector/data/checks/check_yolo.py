"""YOLO label files and their images, to be looked at for problems."""

from collections import Counter
from pathlib import Path

from detector.data.checks.dataset_check import Entry, Object, Problem, ask
from detector.data.formats.yolo import read_objects, without_images, without_labels
from detector.data.formats.yolo_files import YoloFile
from detector.data.image_files import Exif, check_exif, image_size


class YoloSource:
    """The images of a split; a missing file, folder or split is a UserError still."""

    def __init__(
        self,
        data_yaml: Path,
        split: str = "val",
        root: str | Path | None = None,
        exif: Exif = "ignore",
    ) -> None:
        check_exif(exif)
        self.name = f"YOLO {split}"
        self.problems: list[Problem] = []
        self._exif = exif
        file = YoloFile.read(data_yaml, Path(root) if root is not None else None)
        self.classes, self._keypoints = file.classes, file.keypoints
        self._images = file.images(split)
        where = f"{file.path}: {split}"
        self.notes = (
            *file.notes,
            *without_labels(self._images, where),
            *without_images(self._images, where),
        )

    def __len__(self) -> int:
        return len(self._images)

    def entry(self, index: int) -> Entry:
        image = self._images[index]
        entry = Entry(image.path, exif=self._exif)
        size = ask([], "undecodable image", image_size, image.path, self._exif)  # told later on
        if size is not None:
            entry.width, entry.height = size

        def tell(kind: str, message: str) -> None:
            entry.problems.append(Problem(kind, message))

        found = read_objects(image.labels, size or (1, 1), len(self.classes), self._keypoints, tell)
        seen: Counter[tuple[float, ...]] = Counter()
        for label, box, line in zip(
            found.labels.tolist(), found.boxes.tolist(), found.lines.tolist(), strict=True
        ):
            where = f"{image.labels}:{line}"
            seen[(label, *box)] += 1
            if seen[(label, *box)] == 2:
                tell("duplicate", f"{where}: the same class and box as in a line before")
            if size is not None:
                entry.objects.append(Object(where, label, tuple(box), ignore=False))
        return entry

"""COCO annotations and their images, to be looked at for problems."""

from pathlib import Path
from typing import Any

from detector.data import coco
from detector.data.check import Entry, Object, Problem, refused
from detector.errors import UserError

_Record = dict[str, Any]
_MALFORMED = "malformed annotation"


class CocoSource:
    """The images of a COCO file; what is no such file at all is a UserError still."""

    def __init__(self, annotation_file: Path, image_folder: Path) -> None:
        if not image_folder.is_dir():
            raise UserError(f"{image_folder}: no such folder; expected images")
        self.name = f"COCO {annotation_file.name}"
        self.problems: list[Problem] = []
        self._path, self._folder = annotation_file, image_folder
        document = coco.read_document(annotation_file)
        categories = self._records(document, "categories", unique="name")
        images = self._records(document, "images", unique="file_name")
        annotations = self._records(document, "annotations")
        self._categories = {number: i for i, number in enumerate(sorted(categories))}
        self.classes = [categories[number]["name"] for number in self._categories]
        self._images = [
            image
            for image in images.values()
            if not refused(self.problems, _MALFORMED, coco.check_image, image, self._path)
        ]
        self._objects: dict[int, list[_Record]] = {number: [] for number in images}
        for number, annotation in annotations.items():
            where = f"{self._path}: annotation {number}"
            if not refused(self.problems, _MALFORMED, coco.check_owner, annotation, where, images):
                self._objects[annotation["image_id"]].append(annotation)
        if not self._images and not self.problems:
            raise UserError(f"{annotation_file}: no images in it")

    def __len__(self) -> int:
        return len(self._images)

    def entry(self, index: int) -> Entry:
        image = self._images[index]
        entry = Entry(self._folder / image["file_name"], image["width"], image["height"])
        for annotation in self._objects[image["id"]]:
            where = f"{self._path}: annotation {annotation['id']}"
            problems = entry.problems
            refusals = [  # all are asked: an object may have more than one problem
                refused(
                    problems, "unknown class",
                    coco.check_category, annotation, where, self._categories,
                ),
                refused(problems, "degenerate box", coco.check_box, annotation, where),
                refused(problems, _MALFORMED, coco.check_marks, annotation, where),
            ]  # fmt: skip
            if not any(refusals):
                x, y, width, height = annotation["bbox"]
                label = self._categories[annotation["category_id"]]
                crowd = bool(annotation.get("iscrowd", 0))
                entry.objects.append(Object(where, label, (x, y, x + width, y + height), crowd))
        return entry

    def _records(self, document: _Record, key: str, unique: str = "") -> dict[int, _Record]:
        """The records of a list that have what they need, the first of each id."""
        found: dict[int, _Record] = {}
        names: set[str] = set()
        for place, record in enumerate(coco.records(document, key, self._path)):
            if refused(
                self.problems, _MALFORMED, coco.check_fields, record, key, place, self._path
            ):
                continue
            if record["id"] in found:
                self._duplicate(f"two {key} have the id {record['id']}")
            elif unique and record[unique] in names:
                self._duplicate(f'two {key} have the {unique} "{record[unique]}"')
            if unique:
                names.add(record[unique])
            found.setdefault(record["id"], record)
        return found

    def _duplicate(self, what: str) -> None:
        self.problems.append(Problem("duplicate", f"{self._path}: {what}"))

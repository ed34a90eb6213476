"""PASCAL VOC, to be looked at for problems."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from detector.data.checks.dataset_check import Entry, Object, Problem, ask
from detector.data.formats.fields import Difficult
from detector.data.formats.voc_classes import find_classes, notes_on
from detector.data.formats.voc_devkit import devkit_folder, parse_split, read_name, split_names
from detector.data.formats.voc_xml import read_box, read_difficult, read_label, read_size, read_tree
from detector.data.image_files import Exif, check_exif, find_image
from detector.errors import UserError


class VocSource:
    """The images of VOC splits; a missing folder or split file is a UserError still."""

    def __init__(
        self,
        root: Path,
        split: str,
        difficult: Difficult = "ignore",
        classes: Sequence[str] | None = None,
        exif: Exif = "ignore",
    ) -> None:
        check_exif(exif)
        self.name = f"VOC {split}"
        self._difficult, self._exif = difficult, exif
        self.problems: list[Problem] = []
        self._images: dict[tuple[Path, str], str] = {}
        for year, part in parse_split(split):
            folder = devkit_folder(root, year, part)
            where = folder / "ImageSets" / "Main" / f"{part}.txt"
            for line in split_names(folder, part):
                name = ask(self.problems, "malformed annotation", read_name, line, where)
                if name is None:
                    continue
                if (folder, name) in self._images:
                    before = self._images[folder, name]
                    self.problems.append(
                        Problem("duplicate", f"{where}: {name} was already listed in {before}")
                    )
                self._images.setdefault((folder, name), part)
        self._order = tuple(self._images)
        if not self._order and not self.problems:
            raise UserError(f"{root}: {split} lists no image")
        self.classes = tuple(classes or find_classes(folder for folder, _ in self._order))
        self.notes = notes_on(self.classes, str(root)) if classes is None else ()

    def __len__(self) -> int:
        return len(self._order)

    def entry(self, index: int) -> Entry:
        folder, name = self._order[index]
        path = folder / "Annotations" / f"{name}.xml"
        entry = Entry(find_image(folder / "JPEGImages", name), exif=self._exif)
        try:
            tree = read_tree(path)
        except UserError as error:
            kind = "malformed annotation" if path.is_file() else "missing annotation"
            entry.problems.append(Problem(kind, str(error)))
            return entry
        image = entry.path, self._exif
        sides = ask(entry.problems, "malformed annotation", read_size, tree, path, *image)
        if sides is not None:
            entry.width, entry.height = sides
        for place, element in enumerate(tree.findall("object")):
            self._add(entry, element, path, f"{path}: object {place + 1}")
        return entry

    def _add(self, entry: Entry, element: ET.Element, path: Path, where: str) -> None:
        problems = entry.problems
        label = ask(problems, "unknown class", read_label, element, path, self.classes)
        box = ask(problems, "degenerate box", read_box, element, path)
        marked = ask(problems, "malformed annotation", read_difficult, element, path)
        if label is None or box is None or marked is None:
            return
        if not (marked and self._difficult == "drop"):
            ignore = marked and self._difficult == "ignore"
            entry.objects.append(Object(where, label, box, ignore))

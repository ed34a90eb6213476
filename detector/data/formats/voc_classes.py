"""Which classes a data set in the form of PASCAL VOC has."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from detector.data.formats.fields import shown
from detector.data.formats.voc_devkit import lines_of
from detector.data.formats.voc_xml import CLASSES, read_tree
from detector.disk.visible import visible
from detector.errors import UserError, did_you_mean

# So many annotation files are looked at before a data set counts as VOC's own.
_FIRST = 64


def find_classes(folders: Iterable[Path]) -> tuple[str, ...]:
    """VOC's classes; or, of a data set that has its own, the names in its annotations, sorted.

    All annotations of the years are looked at, not those of a split alone, so that every split has
    the same classes. Names that are like one of VOC's, beside such, are misspelled: they make no
    data set one with classes of its own.
    """
    files = [path for one in dict.fromkeys(folders) for path in visible(one, "Annotations/*.xml")]
    if _names(files[:_FIRST]) <= set(CLASSES):
        return CLASSES  # without reading the thousands of files that VOC has
    found = _names(files)
    own = found - set(CLASSES)
    misspelled = own < found and all(did_you_mean(name, CLASSES) for name in own)
    return CLASSES if misspelled else tuple(sorted(found))


def notes_on(classes: Sequence[str], where: str) -> tuple[str, ...]:
    if tuple(classes) == CLASSES:
        return ()
    few = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    count = f"{len(classes)} class{'es' if len(classes) > 1 else ''}"
    return (f"{where}: {count} of its own, as its annotations name them: {few}",)


def read_classes(path: Path) -> tuple[str, ...]:
    """The class names in a text file, one in each line."""
    names = lines_of(path)
    if not names:
        raise UserError(f"{path}: no class names in it; expected one in each line")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{path}: class {shown(name)} is there twice")
    return tuple(names)


def _names(files: Iterable[Path]) -> set[str]:
    """The class names in annotation files; whoever reads a file that is none will say so."""
    found = set()
    for path in files:
        try:
            tree = read_tree(path)
        except UserError:
            continue
        found |= {(one.findtext("name") or "").strip() for one in tree.findall("object")}
    return found - {""}

"""The folders of PASCAL VOC: years, splits, and the names of images in a split's file."""

import re
from pathlib import Path

from detector.data.formats.fields import shown
from detector.data.image_files import SUFFIXES
from detector.disk.bounded import text_of
from detector.disk.visible import visible
from detector.errors import UserError, nearest_or_all, no_folder


def parse_split(split: str) -> tuple[tuple[str, str], ...]:
    """(year, split file) pairs of ``"2007:trainval+2012:trainval"``; "" where no year is given."""
    pairs: list[tuple[str, str]] = []
    for part in split.split("+"):
        year, colon, name = part.strip().rpartition(":")
        if not name or (colon and not re.fullmatch(r"\d{4}", year)):
            raise UserError(
                f'VOC split "{split}" is not understood at "{part}"; '
                'give names such as "train+val" or "2007:trainval+2012:trainval"'
            )
        pairs.append((year, name))
    return tuple(pairs)


def devkit_folder(root: Path, year: str, split: str) -> Path:
    """A year's folder as ``year_folder`` finds it, or ``root`` where that is one itself.

    Without a ``year`` it is that of the only year there; ``UserError`` where there are several.
    """
    if (root / "Annotations").is_dir() and (root / "ImageSets" / "Main").is_dir():
        return root
    if year:
        return year_folder(root, year)
    held = sorted({one.name[3:] for place in (root, root / "VOCdevkit")
                   for one in place.glob("VOC[0-9][0-9][0-9][0-9]")})  # fmt: skip
    if len(held) > 1:
        written = " or ".join(f"{one}:{split}" for one in held)
        raise UserError(f'{root} holds several years; give split "{split}" as {written}')
    return year_folder(root, held[0] if held else "2007")


def year_folder(root: Path, year: str) -> Path:
    """``VOC2007`` of a VOCdevkit folder, or of one that holds it."""
    for folder in (root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}"):
        if folder.is_dir():
            return folder
    if not root.is_dir():
        raise no_folder(root, f"expected VOCdevkit, with VOC{year} in it")
    within = root / "VOCdevkit" if (root / "VOCdevkit").is_dir() else root
    present = sorted(path.name for path in within.iterdir())[:8]
    raise UserError(
        f"{within}: no VOC{year} folder; expected VOC{year}/ImageSets/Main in it, "
        f"found {', '.join(present) or 'nothing'}"
    )


def splits_in(root: Path) -> list[str]:
    """The splits of a VOCdevkit folder, or of one year's, as ``parse_split`` takes them; nothing
    where there are none. The lists of single classes (``dog_train``) are left out."""
    places = [("", root)] + [
        (f"{year.name[3:]}:", year)
        for place in (root, root / "VOCdevkit")
        for year in sorted(place.glob("VOC[0-9][0-9][0-9][0-9]"))
    ]
    return [
        f"{prefix}{one.stem}"
        for prefix, folder in places
        for one in visible(folder, "ImageSets/Main/*.txt")
        if "_" not in one.stem
    ]


def split_names(folder: Path, split: str) -> list[str]:
    """The image names in a year's split file, unchecked."""
    return lines_of(split_file(folder, split))


def read_name(line: str, where: object) -> str:
    """The image name, without suffix, in a line of a split file.

    UserError for a class's own list ("000012 -1"), or what leads out of the folder of images.
    """
    name = line
    for suffix in SUFFIXES:
        if line.lower().endswith(suffix):
            name = line[: -len(suffix)]
    if re.search(r"^(\d{4}_)?\d{6}\s+[01]$|\s-1$", line):
        raise UserError(
            f"{where}: {shown(line)} is a line of a class's list, which marks the images that "
            "show the class; give the list of all images, such as train in place of dog_train"
        )
    leads_out = name in ("", ".", "..") or re.search(r"[/\\:]", name)
    if leads_out or not name.isprintable() or len(name) > 200:
        raise UserError(
            f"{where}: {shown(line)} is not a VOC image name such as 000005 or 2008_000005"
        )
    return name


def split_file(folder: Path, split: str) -> Path:
    lists = folder / "ImageSets" / "Main"
    if not lists.is_dir():
        raise no_folder(lists, "a VOC year keeps its splits there")
    names = [path.stem for path in visible(lists, "*.txt")]
    if split not in names:
        raise UserError(f'no split "{split}" in {lists}{nearest_or_all(split, names)}')
    return lists / f"{split}.txt"


def lines_of(path: Path) -> list[str]:
    return [line.strip() for line in text_of(path).split("\n") if line.strip()]

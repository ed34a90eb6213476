"""A split in a folder as Hugging Face's ``datasets`` makes and reads it, as data.

Three forms: Parquet, as on the hub; Arrow, as of ``save_to_disk`` and of its cache; a folder of
images with ``metadata.jsonl``. The folder's own settings, which may name files anywhere and
addresses, are not followed: files are found by their names.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.data.conversion.hugging_face.class_names import names_in_notes, names_on_card
from detector.data.conversion.hugging_face.image_lines import METADATA, described_images
from detector.data.conversion.hugging_face.row import Row
from detector.data.conversion.hugging_face.tables import SUFFIXES, notes, table_rows
from detector.data.image_files import stored_image
from detector.errors import UserError, did_you_mean, no_folder

_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
_SHARD = re.compile(r"(.*)-([0-9]{5,})-of-([0-9]{5,})$")


@dataclass(frozen=True)
class Split:
    """The files of one split.

    Attributes:
        folder: in which the files of all splits are.
        files: Parquet or Arrow, by name; or one ``metadata.jsonl``.
        name: of the split, where that file has all of them, whose images are in folders apart.
    """

    folder: Path
    files: Sequence[Path]
    name: str | None = None

    def rows(self) -> Iterator[Row]:
        """Raises ``UserError`` for what cannot be read, or holds no image."""
        for path in self.files:
            yield from self._described(path) if path.name == METADATA else table_rows(path)

    def class_names(self, *column: str) -> tuple[str, ...]:
        """What the numbers in a column, which may be nested, are called, from 0 on; empty where
        nothing says it."""
        first = self.files[0]
        if first.name == METADATA:
            return names_on_card(self.folder / "README.md", *column)
        return names_in_notes(notes(first), first, *column)

    def _described(self, path: Path) -> Iterator[Row]:
        for where, values, name in described_images(path):
            own = Path(name)
            if self.name is None or _split_of(own.parent) == self.name:
                yield Row(where, values, stored_image(path.parent / own), own.name)


def find_split(folder: Path, name: str | None) -> Split:
    """The files of a split: those in whose path its name stands as a word.

    Args:
        name: None where the folder holds one split, or what has no name.
    """
    if not folder.is_dir():
        raise no_folder(folder, "expected a data set's folder, with Parquet or Arrow files or "
                        f"{METADATA}")  # fmt: skip
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_data(path)]
    kinds = [
        [path for path in found if path.name == METADATA],
        *([path for path in found if path.suffix == suffix] for suffix in SUFFIXES),
    ]
    files = next(filter(None, kinds), [])
    if not files:
        raise UserError(f"{folder}: no Parquet or Arrow file in it, and no {METADATA}")
    splits = {path: _split_of(path.relative_to(folder)) for path in files}
    if files == kinds[0] and not any(splits.values()) and len(files) == 1:
        return _in_one_file(folder, files[0], name)
    known = sorted({one for one in splits.values() if one})
    if name is None:
        _check_one(folder, known)
        chosen = files
    else:
        chosen = [
            path
            for path in files
            if splits[path] == name
            or (name not in _SPLITS and name in _words(path.relative_to(folder)))
        ]
    if not chosen:
        raise _no_split(folder, name, known)
    places = sorted({str(path.parent) for path in chosen})
    if len(places) > 1:
        raise UserError(f"{folder}: files of this split are in several folders, {places[0]} and "
                        f"{places[1]}: name one of them")  # fmt: skip
    _check_whole(chosen)
    return Split(folder, chosen)


def _in_one_file(folder: Path, path: Path, name: str | None) -> Split:
    """A split of a folder that describes the images of all splits in one file."""
    splits = {_split_of(Path(own).parent) for _, _, own in described_images(path)}
    known = sorted(one for one in splits if one)
    if name is None:
        _check_one(folder, known)
        return Split(folder, [path])
    if name not in known:
        raise _no_split(folder, name, known)
    return Split(folder, [path], name)


def _check_one(folder: Path, known: Sequence[str]) -> None:
    if len(known) > 1:
        raise UserError(f"{folder} holds several splits; give --split {', '.join(known)}")


def _no_split(folder: Path, name: str | None, known: Sequence[str]) -> UserError:
    told = f"; there are {', '.join(known)}{did_you_mean(name or '', known)}" if known else ""
    return UserError(f'{folder}: no split "{name}" in it{told}')


def _is_data(path: Path) -> bool:
    own = path.suffix in SUFFIXES and not path.name.startswith("cache-")
    return own or path.name == METADATA


def _words(path: Path) -> list[str]:
    return re.split(r"[^0-9A-Za-z]+", path.as_posix())


def _split_of(path: Path) -> str | None:
    """The last word that is a usual name of a split: what is before it may name the data set."""
    return next((word for word in reversed(_words(path)) if word in _SPLITS), None)


def _check_whole(files: Sequence[Path]) -> None:
    """Refuses a split of which a part is missing."""
    names = {path.stem for path in files}
    for path in files:
        if match := _SHARD.fullmatch(path.stem):
            stem, number, count = match.groups()
            for part in range(int(count)):
                name = f"{stem}-{part:0{len(number)}}-of-{count}"
                if name not in names:
                    raise UserError(f"{path.parent}: {name}{path.suffix} is missing, one of "
                                    f"{int(count)} parts of the split")  # fmt: skip

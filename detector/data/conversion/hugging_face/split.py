"""A split in a folder as Hugging Face's ``datasets`` makes and reads it, as data.

Three forms: Parquet, as on the hub; Arrow, as of ``save_to_disk`` and of its cache; a folder of
images with ``metadata.jsonl``, or the same as Parquet or CSV. The folder's own settings, which may
name files anywhere and addresses, are not followed: files are found by their names.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.data.conversion.hugging_face.class_names import names_in_notes, names_on_card
from detector.data.conversion.hugging_face.image_lines import METADATA, described_images
from detector.data.conversion.hugging_face.tables import (
    SUFFIXES,
    Row,
    notes,
    table_rows,
    table_values,
)
from detector.data.image_files import stored_image
from detector.disk.bounded import SETTINGS, text_of
from detector.disk.visible import visible
from detector.errors import UserError, did_you_mean, no_folder

# What ``datasets`` takes for a split, and for which.
_USUAL = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_METADATA = "metadata.jsonl, .parquet or .csv"
_SHARD = re.compile(r"(.*)-([0-9]{5,})-of-([0-9]{5,})$")


@dataclass(frozen=True)
class Split:
    """The files of one split."""

    folder: Path  # in which the files of all splits are
    files: Sequence[Path]  # Parquet or Arrow, by name; or one that describes images
    of_all: Sequence[Path]  # the files of all splits
    # Of the split, where that file has all of them, whose images are in folders apart.
    name: str | None = None

    def rows(self) -> Iterator[Row]:
        """Raises ``UserError`` for what cannot be read, or holds no image."""
        for path in self.files:
            yield from self._described(path) if path.name in METADATA else table_rows(path)

    def values_of_all(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Where each row of every split is, and what it says beside the image."""
        for path in self.of_all:
            if path.name in METADATA:
                yield from ((where, values) for where, values, _ in described_images(path))
            else:
                yield from table_values(path)

    def class_names(self, *column: str) -> tuple[str, ...]:
        """What the numbers in a column, which may be nested, are called, from 0 on; empty where
        nothing says it."""
        first = self.files[0]
        own = names_in_notes(notes(first), first, *column) if first.suffix in SUFFIXES else ()
        cards = [folder / "README.md" for folder in (self.folder, self.folder.absolute().parent)]
        return own or next(
            filter(None, (names_on_card(card, first, *column) for card in cards)), ()
        )

    def _described(self, path: Path) -> Iterator[Row]:
        for where, values, name in described_images(path):
            own = Path(name)
            if self.name is None or _split_of(own.parent) == self.name:
                yield Row(where, values, stored_image(path.parent / own), own.name)


def find_split(folder: Path, name: str | None) -> Split:
    """The files of a split, by their names.

    Args:
        name: as ``datasets`` calls it, or as the files do; None where the folder holds one split,
            or what has no name.
    """
    if not folder.is_dir():
        raise no_folder(folder, "expected a data set's folder, with Parquet or Arrow files or "
                        f"{_METADATA}")  # fmt: skip
    found = [path for path in visible(folder, "**/*") if path.is_file() and _is_data(path)]
    kinds = [
        *([path for path in found if path.name == own] for own in METADATA),
        *([path for path in found if path.suffix == suffix] for suffix in SUFFIXES),
    ]
    files = next(filter(None, kinds), [])
    if not files:
        _check_rows(folder)
        raise UserError(f"{folder}: no Parquet or Arrow file in it, and no {_METADATA}")
    splits = {path: _split_of(path.relative_to(folder)) for path in files}
    if files[0].name in METADATA and not any(splits.values()) and len(files) == 1:
        return _in_one_file(folder, files[0], name)
    known = sorted({one for one in splits.values() if one})
    if name is None:
        _check_one(folder, known)
        chosen = files
    else:
        meant = _meant(name, known)
        chosen = [path for path in files if splits[path] == meant] or [
            path for path in files if name in _words(path.relative_to(folder))
        ]
        _check_one(folder, sorted({one for path in chosen if (one := splits[path])}))
    if not chosen:
        _check_rows(folder / (name or ""))
        raise _no_split(folder, name or "", known)
    places = sorted({str(path.parent) for path in chosen})
    if len(places) > 1:
        raise UserError(f"{folder}: files of this split are in several folders; give one of them "
                        f"in its place: {places[0]}, {places[1]}")  # fmt: skip
    _check_whole(chosen)
    return Split(folder, chosen, files)


def _check_rows(folder: Path) -> None:
    """Refuses what ``save_to_disk`` leaves of a data set without rows: its notes alone."""
    for path in visible(folder, "**/state.json"):
        try:
            state = json.loads(text_of(path, SETTINGS))
        except (ValueError, RecursionError):
            continue
        if isinstance(state, dict) and state.get("_data_files") == []:
            raise UserError(f"{path.parent}: was saved without rows, so there is no image in it")


def _in_one_file(folder: Path, path: Path, name: str | None) -> Split:
    """A split of a folder that describes the images of all splits in one file."""
    splits = {_split_of(Path(own).parent) for _, _, own in described_images(path)}
    known = sorted(one for one in splits if one)
    if name is None:
        _check_one(folder, known)
        return Split(folder, [path], [path])
    if (meant := _meant(name, known)) not in known:
        raise _no_split(folder, name, known)
    return Split(folder, [path], [path], meant)


def _check_one(folder: Path, known: Sequence[str]) -> None:
    if len(known) > 1:
        raise UserError(f"{folder} holds several splits; give --split {', '.join(known)}")


def _no_split(folder: Path, name: str, known: Sequence[str]) -> UserError:
    told = f"; there are {', '.join(known)}{did_you_mean(name or '', known)}" if known else ""
    return UserError(f'{folder}: no split "{name}" in it{told}')


def _is_data(path: Path) -> bool:
    own = path.suffix in SUFFIXES and not path.name.startswith("cache-")
    return own or path.name in METADATA


def _meant(name: str, known: Sequence[str]) -> str:
    """The split of this name, else the one that ``datasets`` calls so."""
    same = [one for one in known if _USUAL.get(one) == _USUAL.get(name, name)]
    return same[0] if name not in known and len(same) == 1 else name


def _words(path: Path) -> list[str]:
    return re.split(r"[^0-9A-Za-z]+", path.as_posix())


def _split_of(path: Path) -> str | None:
    """What stands before a part's number, or the folder that was saved under a split's name; else
    the last word that is a usual name: what is before it may name the data set."""
    part = _SHARD.fullmatch(path.stem)
    if part and part[1] == "data" and path.suffix == ".arrow":
        return path.parent.name or None
    usual = next((word for word in reversed(_words(path)) if word in _USUAL), None)
    if part and path.suffix == ".parquet" and re.fullmatch(r"\w+", part[1]):
        return part[1] if usual in _words(Path(part[1])) else usual
    return usual


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

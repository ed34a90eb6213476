"""The rows of a split in a folder as Hugging Face's ``datasets`` makes and reads it, as data.

Three forms: Parquet, as on the hub; Arrow, as of ``save_to_disk`` and of its cache; a folder of
images with ``metadata.jsonl``. The folder's own settings, which may name files anywhere and
addresses, are not followed: files are found by their names.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from detector.data.formats.fields import shown
from detector.data.image_files import stored_image
from detector.disk.bounded import DOCUMENT, SETTINGS, read_bounded
from detector.errors import UserError, did_you_mean, no_folder
from detector.extras import missing
from detector.yaml_values import YamlError, read_yaml

METADATA = "metadata.jsonl"

_SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
_SHARD = re.compile(r"(.*)-([0-9]{5,})-of-([0-9]{5,})$")
_FEW = 16  # rows whose images are in memory at once


@dataclass(frozen=True)
class Row:
    """One image and what its row says.

    Attributes:
        where: for messages.
        values: of all other columns.
        image: the bytes of its file.
        name: of that file, without folders; "" where none is known.
    """

    where: str
    values: dict[str, Any]
    image: bytes
    name: str


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
            yield from _described(path, self.name) if path.name == METADATA else _stored(path)

    def class_names(self, *column: str) -> tuple[str, ...]:
        """What the numbers in a column, which may be nested, are called, from 0 on; empty where
        nothing says it."""
        first = self.files[0]
        if first.name == METADATA:
            features = _front_matter(self.folder / "README.md")
        else:
            with _readable(first):
                features = json.loads((_schema(first).metadata or {}).get(b"huggingface", b"{}"))
        try:
            for name in column:
                features = _named(features, name)
            return _names(features)
        except RecursionError:
            raise UserError(f"{first}: its features are nested too deeply") from None


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
        [path for path in found if path.suffix == ".parquet"],
        [path for path in found if path.suffix == ".arrow"],
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
        there = f"; there are {', '.join(known)}" if known else ""
        raise UserError(
            f'{folder}: no split "{name}" in it{there}{did_you_mean(name or "", known)}'
        )
    places = sorted({str(path.parent) for path in chosen})
    if len(places) > 1:
        raise UserError(f"{folder}: files of this split are in several folders, {places[0]} and "
                        f"{places[1]}: name one of them")  # fmt: skip
    _check_whole(chosen)
    return Split(folder, chosen)


def _in_one_file(folder: Path, path: Path, name: str | None) -> Split:
    """A split of a folder that describes the images of all splits in one file."""
    splits = {_split_of(Path(own).parent) for _, _, own in _lines(path)}
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
    own = path.suffix in (".parquet", ".arrow") and not path.name.startswith("cache-")
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


def _described(path: Path, split: str | None) -> Iterator[Row]:
    """Of a folder of images: those of a split, or all."""
    for where, values, name in _lines(path):
        own = Path(name)
        if split is None or _split_of(own.parent) == split:
            yield Row(where, values, stored_image(path.parent / own), own.name)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Where each line is, what it says, and the name of an image in the folder."""
    for at, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{at}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON: {error}") from None
        name = values.pop("file_name", None) if isinstance(values, dict) else None
        if not isinstance(name, str):
            raise UserError(f'{where}: expected an object with a "file_name"')
        parts = PureWindowsPath(name)  # whose rules know both separators and drive letters
        if not parts.name or parts.anchor or ".." in parts.parts or "\0" in name:
            raise UserError(f"{where}: {shown(name)} does not stay inside the folder")
        yield where, values, name


def _stored(path: Path) -> Iterator[Row]:
    """Of a table: images are a column."""
    with _readable(path):
        column = _image_column(path)
        at = 0
        for batch in _batches(path):
            images = batch.column(column)
            others = batch.drop_columns([column]).to_pylist()
            for image, values in zip(images, others, strict=True):
                where = f"{path}: row {at}"
                at += 1
                found = image.as_py()
                data = found.get("bytes") if isinstance(found, dict) else found
                if not isinstance(data, bytes):
                    raise UserError(
                        f"{where}: holds no image, at most where one lies; a folder of images with "
                        f"{METADATA} is read as it is"
                    )
                name = found.get("path") if isinstance(found, dict) else None
                yield Row(where, values, data, PureWindowsPath(name or "").name)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Around whatever reads a table: PyArrow's errors, which are many, as one line."""
    try:
        from pyarrow import ArrowException
    except ImportError:
        raise missing(f"reading {path.name}", "pyarrow", "parquet") from None
    try:
        yield
    except (ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read: {reason}") from None


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(_FEW)
        return
    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
        for batch in stream:
            batch.validate(full=True)  # else a damaged one ends the process where it is looked at
            for start in range(0, batch.num_rows, _FEW):
                yield batch.slice(start, _FEW)


def _schema(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    if path.suffix == ".parquet":
        return pyarrow.parquet.read_schema(path)
    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
        return stream.schema


def _image_column(path: Path) -> str:
    """The one column of bytes, or of bytes with a name; "image" where there are several."""
    import pyarrow

    schema = _schema(path)
    found = []
    for field in schema:
        kind = field.type
        if pyarrow.types.is_struct(kind):
            kind = next((part.type for part in kind if part.name == "bytes"), kind)
        if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
            found.append(field.name)
    if len(found) == 1 or "image" in found:
        return "image" if "image" in found else str(found[0])
    told = "several columns" if found else "no column"
    raise UserError(f"{path}: {told} of images; its columns are {', '.join(schema.names)}")


def _front_matter(readme: Path) -> Any:
    """What stands between the lines of dashes at the beginning of a data set's card."""
    if not readme.is_file():
        return None
    lines = _text(readme, SETTINGS).splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    end = next((at for at, line in enumerate(lines[1:]) if line.strip() == "---"), 0)
    try:
        return read_yaml("\n".join(lines[1 : end + 1]), number_keys=True).value
    except YamlError as error:
        raise UserError(f"{readme}:{error.line + 1}: {error.problem}") from None


def _named(features: object, name: str) -> object:
    """The first feature of this name, wherever it is nested.

    In a table's own notes features are named by keys; on a card they are lists of features that
    say their names.
    """
    if isinstance(features, list):
        for one in features:
            if isinstance(one, dict) and one.get("name") == name:
                return one
        inner = features
    elif isinstance(features, dict):
        if isinstance(features.get(name), dict):
            return features[name]
        inner = list(features.values())
    else:
        return None
    return next(filter(None, (_named(one, name) for one in inner)), None)


def _names(feature: object) -> tuple[str, ...]:
    """Of the classes of a label: {"names": [...], "_type": "ClassLabel"}, or on a card
    class_label with names by number."""
    if isinstance(feature, dict):
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list):
            return tuple(map(str, names))
        label = feature.get("class_label")
        if isinstance(label, dict) and isinstance(label.get("names"), dict):
            names = label["names"]
            return tuple(str(names.get(str(number), "")) for number in range(len(names)))
        feature = list(feature.values())
    inner = map(_names, feature) if isinstance(feature, list) else ()
    return next(filter(None, inner), ())


def _text(path: Path, most: int = DOCUMENT) -> str:
    try:
        return read_bounded(path, most).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None

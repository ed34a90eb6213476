"""Detections of a sweep's variants in files: of finished ones, and batch by batch of the others."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors.numpy
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.stored import Arrays, pack, unpack
from ablate_kit.text import first_line
from detector.disk.atomic import new_stream
from detector.disk.bounded import opened
from detector.disk.sealed import ChangedError, sealed, unsealed

_CHUNK = 1 << 16
_ABOUT = "about"  # in the files' metadata
_KEYS: TypeAdapter[list[str]] = TypeAdapter(list[str])


class UnfinishedBatches:
    """Detections of unfinished variants, batch by batch; a file for each shard of each batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._checked: set[Path] = set()

    def done(self) -> dict[int, set[str]]:
        """By batch, the keys of the variants of which it has the detections."""
        found: dict[int, set[str]] = {}
        for path in self._files():
            found.setdefault(_batch_of(path), set()).update(_keys_of(path))
        return found

    def add(self, batch: int, found: Mapping[str, Detections]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = json.dumps(list(found))
        name = f"{batch:05d}-{hashlib.sha256(keys.encode()).hexdigest()[:8]}.safetensors"
        write_detections(self.folder / name, found)

    def variants(self, batches: int, keys: tuple[str, ...]) -> Iterator[Detections]:
        """All detections of each variant. Nothing of others is read, and what waits for its turn is
        packed: thousands of images times hundreds of variants are no small part of a memory."""
        parts: dict[str, dict[int, _Packed]] = {key: {} for key in keys}
        for path in self._files():
            there = _keys_of(path)
            chosen = [number for number, key in enumerate(there) if key in parts]
            if chosen:
                self._check(path)
                for number, packed in zip(chosen, _packed(path, len(there), chosen), strict=True):
                    parts[there[number]][_batch_of(path)] = packed
        for key in keys:
            by_batch = parts.pop(key)
            yield Detections.concatenate([by_batch[batch].found() for batch in range(batches)])

    def _check(self, path: Path) -> None:
        """Once: it is read in parts."""
        if path not in self._checked:
            with _opened(path) as file:
                _check(path, file)
            self._checked.add(path)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def _batch_of(path: Path) -> int:
    try:
        return int(path.name.split("-")[0])
    except ValueError:
        raise UserError(f"{path} is no part of a sweep; remove it") from None


def _keys_of(path: Path) -> list[str]:
    with _opened(path) as file:
        return _told_keys(file)


@dataclass(frozen=True)
class _Packed:
    """One set of detections of a file, as it is there."""

    path: Path
    columns: Arrays

    def found(self) -> Detections:
        with _readable(self.path):
            (found,) = unpack(self.columns)
            return found


def write_detections(path: Path, found: Mapping[str, Detections]) -> None:
    """Those of variants, by their keys."""
    columns = pack(list(found.values()))
    digest = _digest_of(io.BytesIO(safetensors.numpy.save(columns)))
    about = sealed({"keys": list(found), "columns": digest})
    # All in one entry: those of a file's metadata come in no order.
    write(path, safetensors.numpy.save(columns, metadata={_ABOUT: json.dumps(about)}))


def read_detections(path: Path) -> Detections:
    """Those of one finished variant, by whose key the file is called."""
    with _opened(path) as file:
        if _ABOUT in (file.metadata() or {}):  # earlier versions told nothing of them
            _check(path, file)
            if _told_keys(file) != [path.stem]:
                raise ValueError("it holds detections of another variant")
    return _packed(path, 1, [0])[0].found()


def _packed(path: Path, count: int, chosen: Sequence[int]) -> list[_Packed]:
    """Of a file with so many sets of detections, those chosen."""
    with _opened(path) as file:
        counts = file.get_tensor("count")
        if len(counts) != count:
            raise ValueError(f"it holds {len(counts)} sets of detections, expected {count}")
        ends = np.cumsum(counts)
        spans = ((int(ends[one] - counts[one]), int(ends[one])) for one in chosen)
        return [_Packed(path, _rows(file, start, end)) for start, end in spans]


def _rows(file: Any, start: int, end: int) -> Arrays:
    found: Arrays = {"count": np.array([end - start])}
    for name in file.keys() - found.keys():
        column = file.get_slice(name)
        if start < end:
            found[name] = column[start:end]
        else:  # from the end of a column on there is nothing to take, not even no rows
            kind = float if column.get_dtype().startswith("F") else int
            found[name] = np.zeros((0, *column.get_shape()[1:]), kind)
    return found


def _told(file: Any) -> dict[str, Any]:
    """What a file says of its columns; raises ``ValueError`` and the like where it says nothing."""
    metadata = file.metadata() or {}
    if _ABOUT not in metadata:  # of an earlier version
        return {"keys": json.loads(metadata["keys"])}
    return dict(unsealed(json.loads(metadata[_ABOUT])))


def _told_keys(file: Any) -> list[str]:
    return _KEYS.validate_python(_told(file)["keys"], strict=True)


def _check(path: Path, file: Any) -> None:
    """Raises ``ChangedError`` where the columns of an open file are not those that were written."""
    told = _told(file).get("columns")
    with opened(path) as stream:
        if told not in (None, _digest_of(stream)):
            raise ChangedError


def _digest_of(stream: BinaryIO) -> str:
    """Of a safetensors file: names, types, shapes and bytes."""
    header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    header.pop("__metadata__", None)
    hashed = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    while chunk := stream.read(_CHUNK):
        hashed.update(chunk)
    return hashed.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with _readable(path), opened(path), safe_open(path, "numpy") as file:  # no pipe is waited for
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path} is not readable: {first_line(error)}") from None


def write(path: Path, data: bytes) -> None:
    with new_stream(path, overwrite=True) as file:
        file.write(data)

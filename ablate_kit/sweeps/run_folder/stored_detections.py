"""Detections of a sweep's variants in files: of finished ones, and batch by batch of the others."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

_KEYS: TypeAdapter[list[str]] = TypeAdapter(list[str])


class UnfinishedBatches:
    """Detections of unfinished variants, batch by batch; a file for each shard of each batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        data = safetensors.numpy.save(pack(list(found.values())), metadata={"keys": keys})
        write(self.folder / name, data)

    def variants(self, batches: int, keys: tuple[str, ...]) -> Iterator[Detections]:
        """All detections of each variant. Nothing of others is read, and what waits for its turn is
        packed: thousands of images times hundreds of variants are no small part of a memory."""
        parts: dict[str, dict[int, _Packed]] = {key: {} for key in keys}
        for path in self._files():
            there = _keys_of(path)
            chosen = [number for number, key in enumerate(there) if key in parts]
            if chosen:
                for number, packed in zip(chosen, _packed(path, len(there), chosen), strict=True):
                    parts[there[number]][_batch_of(path)] = packed
        for key in keys:
            by_batch = parts.pop(key)
            yield Detections.concatenate([by_batch[batch].found() for batch in range(batches)])

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def _batch_of(path: Path) -> int:
    try:
        return int(path.name.split("-")[0])
    except ValueError:
        raise UserError(f"{path} is no part of a sweep; remove it") from None


def _keys_of(path: Path) -> list[str]:
    with _readable(path), opened(path), safe_open(path, "numpy") as file:  # no pipe is waited for
        return _KEYS.validate_json((file.metadata() or {})["keys"], strict=True)


@dataclass(frozen=True)
class _Packed:
    """One set of detections of a file, as it is there."""

    path: Path
    columns: Arrays

    def found(self) -> Detections:
        with _readable(self.path):
            (found,) = unpack(self.columns)
            return found


def read_detections(path: Path) -> Detections:
    """Those of one finished variant."""
    return _packed(path, 1, [0])[0].found()


def _packed(path: Path, count: int, chosen: Sequence[int]) -> list[_Packed]:
    """Of a file with so many sets of detections, those chosen."""
    with _readable(path), opened(path), safe_open(path, "numpy") as file:
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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path} is not readable: {first_line(error)}") from None


def write(path: Path, data: bytes) -> None:
    with new_stream(path, overwrite=True) as file:
        file.write(data)

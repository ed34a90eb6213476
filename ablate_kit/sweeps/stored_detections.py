"""Detections of a sweep's variants in files: of finished ones, and batch by batch of the others."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.numpy
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.stored import pack, unpack
from ablate_kit.text import first_line
from detector.disk.atomic import new_stream
from detector.disk.bounded import opened

_KEYS: TypeAdapter[list[str]] = TypeAdapter(list[str])


class UnfinishedBatches:
    """Detections of unfinished variants, batch by batch; a file for each shard of each batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def missing(self, batches: int, keys: tuple[str, ...]) -> dict[tuple[str, ...], list[int]]:
        """The batches that are to be done, by the keys of the variants that they lack."""
        done: dict[int, set[str]] = {}
        for path in self._files():
            done.setdefault(_batch_of(path), set()).update(_keys_of(path))
        found: dict[tuple[str, ...], list[int]] = {}
        for batch in range(batches):
            lacks = tuple(key for key in keys if key not in done.get(batch, ()))
            if lacks:
                found.setdefault(lacks, []).append(batch)
        return found

    def add(self, batch: int, found: Mapping[str, Detections]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = json.dumps(list(found))
        name = f"{batch:05d}-{hashlib.sha256(keys.encode()).hexdigest()[:8]}.safetensors"
        data = safetensors.numpy.save(pack(list(found.values())), metadata={"keys": keys})
        write(self.folder / name, data)

    def variants(self, batches: int, keys: tuple[str, ...]) -> Iterator[Detections]:
        """All detections of each variant."""
        parts: dict[str, dict[int, Detections]] = {key: {} for key in keys}
        for path in self._files():
            keys_there = _keys_of(path)
            if parts.keys() & set(keys_there):
                those = read_detections(path, len(keys_there))
                for key, found in zip(keys_there, those, strict=True):
                    if key in parts:
                        parts[key][_batch_of(path)] = found
        for by_batch in parts.values():
            yield Detections.concatenate([by_batch[batch] for batch in range(batches)])

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def _batch_of(path: Path) -> int:
    try:
        return int(path.name.split("-")[0])
    except ValueError:
        raise UserError(f"{path} is no part of a sweep; remove it") from None


def _keys_of(path: Path) -> list[str]:
    try:
        with opened(path), safe_open(path, "numpy") as file:  # a pipe is not waited for
            return _KEYS.validate_json((file.metadata() or {})["keys"], strict=True)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not readable: {first_line(error)}") from None


def read_detections(path: Path, count: int) -> list[Detections]:
    try:
        with opened(path):
            found = unpack(safetensors.numpy.load_file(path))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path} is not readable: {first_line(error)}") from None
    if len(found) != count:
        raise UserError(f"{path} holds {len(found)} sets of detections, expected {count}")
    return found


def write(path: Path, data: bytes) -> None:
    with new_stream(path, overwrite=True) as file:
        file.write(data)

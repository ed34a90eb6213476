"""Detections of many files, of which one at a time is in memory."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ablate_kit.metrics.arrays import read_arrays
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.stored import pack, unpack
from detector.disk.atomic import new_stream


class Spill:
    """Keeps detections in a folder of its own, and reads them again, to the last bit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def keep(self, found: Detections) -> Callable[[], Detections]:
        """A function that reads them."""
        path = self._folder / f"{self._count}.npz"
        self._count += 1
        with new_stream(path) as file:
            np.savez(file, allow_pickle=False, **pack([found]))

        def load() -> Detections:
            (again,) = unpack(read_arrays(path))
            return again

        return load


class Loaded(Mapping[str, Detections]):
    """Detections by name, read anew whenever they are asked for."""

    def __init__(self, loads: Mapping[str, Callable[[], Detections]]) -> None:
        self._loads = loads

    def __getitem__(self, name: str) -> Detections:
        return self._loads[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)

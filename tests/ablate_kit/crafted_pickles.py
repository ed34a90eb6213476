"""Pickles as no library writes them: calls of anything, and storages that claim what they like."""

import pickle
from typing import Any

import torch


class Call:
    """Pickles as ``function(*args)``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.reduced = function, args

    def __reduce__(self) -> Any:
        return self.reduced


class Storage:
    """Pickles as a persistent id."""

    def __init__(self, *identifier: Any) -> None:
        self.identifier = identifier


def ref(
    key: str = "0", kind: Any = torch.FloatStorage, numel: Any = 4, tag: str = "storage"
) -> Storage:
    return Storage(tag, kind, key, "cpu", numel)


class Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.identifier if isinstance(value, Storage) else None

"""The device of a run: where its tensors go, and whose random state is given back."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


def current_device(device: torch.device) -> AbstractContextManager[None]:
    """Makes a GPU the current one within.

    Pinned memory and whatever else names no device would open a context on GPU 0 otherwise.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.device(device)


@contextmanager
def fork_rng(device: torch.device) -> Iterator[None]:
    """Gives back torch's global random states, of the CPU and of this device only."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def thread_count(count: int | None) -> Iterator[None]:
    """Operations on the CPU use so many threads; None: as many as they did.

    Sums are split among them, which changes their last bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def to_device(batch: Any, device: torch.device) -> Any:
    """Every tensor in nested lists, tuples and dictionaries; other values stay as they are."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: to_device(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch

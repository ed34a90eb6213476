"""Throughput and memory of a training run."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

Batch = TypeVar("Batch")


class ThroughputMeter:
    """Images per second between two readings."""

    def __init__(self, batch: int) -> None:
        self.batch, self.time = batch, time.monotonic()

    def read(self, batch: int, images_per_batch: int) -> dict[str, float]:
        now = time.monotonic()
        images = (batch - self.batch) * images_per_batch
        rate = images / max(now - self.time, 1e-9)
        self.batch, self.time = batch, now
        return {"images_per_second": round(rate, 2)}


def timed(batches: Iterable[Batch]) -> Iterator[tuple[float, Batch]]:
    """The batches, each with the seconds waited for it."""
    started = time.monotonic()
    for batch in batches:
        yield time.monotonic() - started, batch
        started = time.monotonic()


def memory_gb(device: torch.device) -> float:
    """The most memory used so far, in GB: of the GPU, or of this process."""
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return round(used / 1e9, 3)

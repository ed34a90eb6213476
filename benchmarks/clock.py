"""What benchmarks measure by: time and memory, of this process or of a GPU."""

import resource
import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


class Clock:
    """Seconds of this process, or of a GPU that has done all that it was given."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device if device.type == "cuda" else None

    def __call__(self) -> float:
        if self._gpu is None:
            return time.process_time()
        torch.cuda.synchronize(self._gpu)
        return time.perf_counter()

    def of(self, run: Callable[[], T]) -> tuple[T, float]:
        start = self()
        result = run()
        return result, self() - start


def peak_mib(device: torch.device) -> float:
    """Of the GPU since its count was set back, or of this process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

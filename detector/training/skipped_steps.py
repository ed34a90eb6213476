"""Which optimizer steps were skipped, for gradients that are NaN or infinite."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.training.distributed import DistributedContext


@dataclass(frozen=True)
class OptimizerStep:
    number: int
    skipped: Tensor  # on the device, () bool
    image_ids: Sequence[int]  # of this process


class SkippedStepTracker:
    """Optimizer steps of which the host does not know yet whether they were skipped.

    The device decides; reading the decision is a host sync, so it is done where a log line is due
    anyway.
    """

    def __init__(self, distributed: DistributedContext) -> None:
        self._distributed = distributed
        self._pending: list[OptimizerStep] = []

    def add(self, step: OptimizerStep) -> None:
        self._pending.append(step)

    def fetch(self) -> Iterator[tuple[int, list[int]]]:
        """Each step skipped since last time, with the image ids of all processes."""
        steps, self._pending = self._pending, []
        if not steps:
            return
        # A process may have seen a NaN loss, and the others not.
        flags = self._distributed.mean(torch.stack([step.skipped for step in steps]).float())
        for step, skipped in zip(steps, flags.tolist(), strict=True):
            if skipped:
                yield step.number, self._distributed.all_gather(list(step.image_ids))

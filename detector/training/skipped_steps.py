"""Which optimizer steps were skipped, for gradients that are NaN or infinite."""

from collections.abc import Iterator

import torch
from torch import Tensor

from detector.training.distributed import DistributedContext


class SkippedStepTracker:
    """Optimizer steps of which the host does not know yet whether they were skipped.

    The device decides; reading the decision is a host sync, so it is done where a log line is due
    anyway.
    """

    def __init__(self, distributed: DistributedContext) -> None:
        self._distributed = distributed
        self._pending: list[tuple[int, Tensor]] = []

    def add(self, step: int, skipped: Tensor) -> None:
        """``skipped``: () bool on the device."""
        self._pending.append((step, skipped))

    def fetch(self) -> Iterator[int]:
        """Each step skipped since last time."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        # A process may have seen a NaN loss, and the others not.
        flags = self._distributed.mean(torch.stack([skipped for _, skipped in pending]).float())
        for (step, _), skipped in zip(pending, flags.tolist(), strict=True):
            if skipped:
                yield step

"""Which optimizer steps were left out, for gradients that are no numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.training.processes import Processes


@dataclass(frozen=True)
class Step:
    number: int
    left_out: Tensor  # on the device, () bool
    image_ids: Sequence[int]  # of this process


class Undecided:
    """Steps of which nobody has looked yet whether they were left out.

    The device decides; looking waits for it, so it is done where a log line is due anyway.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._steps: list[Step] = []

    def add(self, step: Step) -> None:
        self._steps.append(step)

    def decide(self) -> Iterator[tuple[int, list[int]]]:
        """Each step left out since last time, with the image ids of all processes."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        # A process may have seen a loss that is no number, and the others not.
        flags = self._processes.mean(torch.stack([one.left_out for one in steps]).float())
        for one, left_out in zip(steps, flags.tolist(), strict=True):
            if left_out:
                yield one.number, self._processes.gathered(list(one.image_ids))

"""The steps of a run: which batches make one, how many there are, and their learning rate.

Batches and steps count from 0. The last step of an epoch may have fewer batches than others.
"""

import math
from dataclasses import dataclass

from detector.training.optim import learning_rate_factor
from detector.training.recipes.loop_recipe import LoopOptions


@dataclass(frozen=True)
class Schedule:
    options: LoopOptions
    batches_per_epoch: int

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.options.accumulate)

    def step(self, epoch: int, batch: int) -> int:
        """Optimizer steps before a batch of an epoch, skipped ones and one under way included."""
        return epoch * self.steps_per_epoch + math.ceil(batch / self.options.accumulate)

    def group(self, batch: int) -> tuple[int, bool]:
        """How many batches the step of a batch has, and whether this one is its last."""
        accumulate = self.options.accumulate
        first = batch // accumulate * accumulate
        size = min(accumulate, self.batches_per_epoch - first)
        return size, batch + 1 == first + size

    def batches(self, step: int) -> range:
        """The batches of a step, in its epoch."""
        first = step % self.steps_per_epoch * self.options.accumulate
        return range(first, min(first + self.options.accumulate, self.batches_per_epoch))

    def rate(self, step: int) -> float:
        """The learning rate over the recipe's."""
        options = self.options
        return learning_rate_factor(
            step,
            warmup=round(options.warmup_epochs * self.steps_per_epoch),
            total=options.epochs * self.steps_per_epoch,
            start=options.warmup_start,
            end=options.final_lr,
        )

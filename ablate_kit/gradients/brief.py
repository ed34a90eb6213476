"""A brief training run under the monitor."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ablate_kit.gradients.attribution import Attribution, attribute
from ablate_kit.gradients.monitor import GradientMonitor
from detector.training.devices import current_device, fork_rng

WARM = 20  # steps before the loss terms are told apart: gates that start at zero have opened


class Training(Protocol):
    """A detector, its data and its loss, as one framework has them."""

    accumulate: int  # batches per step
    scaler: torch.amp.GradScaler  # of half precision; disabled where there is none

    @property
    def model(self) -> nn.Module: ...

    @property
    def optimizer(self) -> torch.optim.Optimizer: ...

    def batches(self) -> Iterator[Any]:
        """Batches without end."""

    def losses(self, batch: Any, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and the terms that it is the sum of."""

    def clip(self) -> None:
        """Limits the gradients as a real run would, if it would."""


@dataclass(frozen=True)
class Outcome:
    steps: int
    loss: float  # of the last step
    attribution: Attribution | None


def train_briefly(
    training: Training,
    monitor: GradientMonitor,
    steps: int,
    *,
    seed: int,
    after: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Takes ``steps`` optimizer steps; ends early after one whose loss is not finite.

    The gradients are those before clipping. ``after`` is told of every step. The global random
    state, which dropout draws from, is put back.
    """
    done = Outcome(0, math.nan, None)
    training.model.train()
    batches = training.batches()
    device = next(training.model.parameters()).device
    with current_device(device), fork_rng(device):
        torch.manual_seed(seed)
        for step in range(1, steps + 1):
            total, attribution = 0.0, done.attribution
            for i, batch in enumerate(islice(batches, training.accumulate)):
                index = (step - 1) * training.accumulate + i
                loss, terms = training.losses(batch, index)
                if attribution is None and step == min(WARM, steps):
                    attribution = attribute(terms, monitor.names, monitor.parameters, step)
                training.scaler.scale(loss / training.accumulate).backward()
                total += loss.item() / training.accumulate
            training.scaler.unscale_(training.optimizer)
            monitor.observe()
            training.clip()
            training.scaler.step(training.optimizer)
            training.scaler.update()
            training.optimizer.zero_grad(set_to_none=True)
            done = Outcome(step, total, attribution)
            after(done)
            if not math.isfinite(total):
                break
    return done

"""A brief training run under the monitor."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch

from ablate_kit.gradients.attribute import attribute
from ablate_kit.gradients.attribution import Attribution
from ablate_kit.gradients.monitor import GradientMonitor
from ablate_kit.models.training import Training
from detector.training.devices import current_device, fork_rng

WARM = 20  # steps before the loss terms are told apart: gates that start at zero have opened


@dataclass(frozen=True)
class ShortRun:
    steps: int
    loss: float  # of the last step
    attribution: Attribution | None


def train_briefly(
    training: Training,
    monitor: GradientMonitor,
    steps: int,
    *,
    seed: int,
    after: Callable[[ShortRun], None] = lambda _: None,
) -> ShortRun:
    """Takes ``steps`` optimizer steps; ends early after one whose loss is not finite.

    The gradients are those before clipping. ``after`` is told of every step. The global random
    state, which dropout draws from, is put back.
    """
    done = ShortRun(0, math.nan, None)
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
            done = ShortRun(step, total, attribution)
            after(done)
            if not math.isfinite(total):
                break
    return done

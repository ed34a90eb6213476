"""An exponential moving average of a model's weights, as plain state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def ema_decay(step: int, decay: float) -> float:
    """The decay at optimizer step ``step`` (from 0): min(decay, (1 + step) / (10 + step)).

    The average of a young run follows its weights closely. A pure function of the step, so that a
    resumed run continues it exactly.
    """
    return min(decay, (1 + step) / (10 + step))


class Ema:
    """average = d * average + (1 - d) * weights after every step, d = ``ema_decay(step)``.

    Buffers, and parameters that are no floating-point numbers, are copied. The average lives on
    the model's device and starts as a copy of the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}; expected 0 <= decay < 1")
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        weights = model.state_dict()
        learned = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        names = [name for name in weights if name in learned and weights[name].is_floating_point()]
        torch._foreach_lerp_(
            [self.average[name] for name in names],
            [weights[name].detach() for name in names],
            1 - ema_decay(step, self.decay),
        )
        for name, value in weights.items():
            if name not in learned or not value.is_floating_point():
                self.average[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model holds the average within, and its own weights again, to the bit, after."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        return self.average

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if state.keys() != self.average.keys():
            raise ValueError("the average is of another model")
        for name, value in state.items():
            self.average[name].copy_(value)

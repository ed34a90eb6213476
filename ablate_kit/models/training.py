"""A detector's training, as one framework has it."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Training(Protocol):
    """A detector, its data and its loss."""

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

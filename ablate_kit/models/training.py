"""A detector's training, as one framework has it."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError


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


def shuffled(images: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Batches of so many images by number, anew in each epoch, without end.

    Raises:
        UserError: there are fewer images.
    """
    if images < batch_size:
        raise UserError(f"{images} images do not fill a batch of {batch_size}")
    return _epochs(images, batch_size, seed)


def _epochs(images: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    epoch = 0
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(images)
        for start in range(0, images - batch_size + 1, batch_size):
            yield [int(index) for index in order[start : start + batch_size]]
        epoch += 1

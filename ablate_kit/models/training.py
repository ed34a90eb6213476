"""A detector's training, as one framework has it."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.labels.classes import match_classes
from detector.data.dataset import Dataset

WEIGHT_DECAY = 1e-4  # as the DETR family is trained, and torchvision's script has it


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


class ImagesByNumber:
    """AdamW over all parameters that can be trained, on batches of images by number; the loss of
    these is a framework's own.

    Raises:
        UserError: there are fewer images than a batch has.
    """

    accumulate = 1

    def __init__(
        self, adapter: Adapter, dataset: Dataset, options: Mapping[str, Any], device: str = "cpu"
    ) -> None:
        self.model = adapter.module
        self.dataset, self.device = dataset, device
        self._shuffle = len(dataset), int(options["batch_size"]), int(options["seed"])
        self.batches()  # refuses too few
        matched = match_classes(adapter.classes, dataset.classes)
        self.label_of = {int(data): model for model, data in enumerate(matched) if data >= 0}
        self.scaler = torch.amp.GradScaler(torch.device(device).type, enabled=False)
        trained = [one for one in self.model.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, lr=float(options["lr"]), weight_decay=WEIGHT_DECAY
        )

    def batches(self) -> Iterator[list[int]]:
        return shuffled(*self._shuffle)

    def clip(self) -> None:
        """No checkpoint says how it is to be clipped, and torchvision's script does not."""


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

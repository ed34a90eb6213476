"""What a framework must offer so that its detectors can be ablated and evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from ablate_kit.metrics.detections import MAX_DETECTIONS
from ablate_kit.models.image_detections import ImageDetections
from detector.data.dataset import Pixels


@dataclass(frozen=True)
class Prepared:
    """One image as the network takes it."""

    inputs: Mapping[str, torch.Tensor]  # (1, ...) each
    origin: Any  # what ``Adapter.decode`` needs to come back to the original image


class Preparing(Protocol):
    """An adapter that tells how it prepares images, so that they can be kept."""

    def preparation(self) -> Mapping[str, Any] | None:
        """All that ``prepare`` depends on but the image, as JSON holds it: two that are equal
        prepare an image to the same bytes. None: that is not known.

        The origins of such images are tuples of whole numbers.
        """


class Adapter(Protocol):
    """A detector, ready to run in evaluation mode.

    Preparing, running and decoding are apart, so that many ablations can share the first.
    """

    classes: tuple[str, ...]

    @property
    def module(self) -> nn.Module: ...

    def live_names(self) -> Mapping[str, tuple[str, ...]]:
        """For each tensor of the checkpoint, its names in ``module.state_dict()``.

        A tensor that the checkpoint holds once may be shared by several modules.
        """

    def same_model(self, other: "Adapter") -> bool:
        """Whether ``other`` differs in nothing but the values of its tensors."""

    def prepare(self, image: Pixels) -> Prepared:
        """A (height, width, 3) RGB image, prepared alone; called from several threads at once."""

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> Any:
        """Runs the module on a batch of prepared images of one shape."""

    def decode(
        self, outputs: Any, origins: Sequence[Any], limit: int = MAX_DETECTIONS
    ) -> list[ImageDetections]:
        """Detections from what ``forward`` returned, best first; not thresholded.

        ``limit``: how many of an image are wanted at least, where there are so many.
        """

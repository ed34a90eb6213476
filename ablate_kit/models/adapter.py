"""What a framework must offer so that its detectors can be ablated and evaluated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ablate_kit.metrics.detections import MAX_DETECTIONS
from detector.data.dataset import Pixels


@dataclass(frozen=True)
class ImageDetections:
    """Detections of one image, in pixels of the original image."""

    boxes: npt.NDArray[np.float64]  # (k, 4) xyxy
    scores: npt.NDArray[np.float64]  # (k,)
    labels: npt.NDArray[np.int64]  # (k,) index into the adapter's classes
    # (k,) the object query that each comes from; None where the framework cannot tell
    queries: npt.NDArray[np.int64] | None = None

    @staticmethod
    def of_tensors(
        boxes: torch.Tensor,
        scores: torch.Tensor,
        labels: torch.Tensor,
        queries: torch.Tensor | None = None,
    ) -> "ImageDetections":
        """Of tensors on any device, sorted by score; what is equal keeps its order."""
        return ImageDetections(
            boxes=boxes.cpu().double().numpy(),
            scores=scores.cpu().double().numpy(),
            labels=labels.cpu().numpy(),
            queries=None if queries is None else queries.long().cpu().numpy(),
        ).best_first()

    def rows(self, rows: npt.NDArray[np.intp]) -> "ImageDetections":
        queries = None if self.queries is None else self.queries[rows]
        return ImageDetections(self.boxes[rows], self.scores[rows], self.labels[rows], queries)

    def best_first(self) -> "ImageDetections":
        """Sorted by score; what is equal keeps its order."""
        return self.rows(np.argsort(-self.scores, kind="stable"))


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

"""What a detector finds in one image, before the images of a data set are put together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


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
        boxes: "Tensor", scores: "Tensor", labels: "Tensor", queries: "Tensor | None" = None
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

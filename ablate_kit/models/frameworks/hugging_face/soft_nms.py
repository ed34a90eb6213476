"""Soft-NMS (Bodla et al. 2017): a detection that overlaps a better one of its class loses score.

Of two that overlap by more than a threshold, the worse one's score is multiplied by 1 - IoU (the
linear form), best first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ablate_kit.errors import UserError
from ablate_kit.metrics.boxes import iou

MOST = 5000  # candidates; each is held against each other one


@dataclass(frozen=True)
class SoftNMS:
    """
    Attributes:
        candidates: of an image's detections, how many of the best it begins with.
        iou_threshold: from which on two overlap.
        min_score: less than which a detection goes.
    """

    candidates: int
    iou_threshold: float
    min_score: float

    def __call__(self, result: Mapping[str, Tensor], height: int, width: int) -> dict[str, Tensor]:
        """What is left of an image's detections, which come best first: in no order, boxes ending
        at its border.

        ``result`` holds boxes, scores and labels, and what else is told of each detection.
        """
        result = {name: value[: self.candidates] for name, value in result.items()}
        scores, boxes = result["scores"], result["boxes"].clone()
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
        told = (one.detach().cpu().numpy() for one in (scores, result["labels"], boxes))
        factors = torch.from_numpy(self._factors(*told)).to(scores)
        kept = scores * factors >= self.min_score
        if len(scores):
            kept[scores.argmax()] = True
        left = {name: value[kept] for name, value in result.items()}
        return left | {"boxes": boxes[kept], "scores": (scores * factors)[kept]}

    def _factors(
        self,
        scores: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        boxes: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.float64]:
        """What each score is multiplied by."""
        corners = boxes.astype(np.float64)
        overlap = iou(corners[:, None], corners)
        overlap[(labels[:, None] != labels) | (overlap < self.iou_threshold)] = 0
        np.fill_diagonal(overlap, 0)
        current, factors = scores.astype(np.float64), np.ones(len(scores))
        waiting = np.asarray(overlap.any(1))  # all others stay as they are, and change none
        while waiting.any():
            best = np.where(waiting, current, -1).argmax()
            waiting[best] = False
            if current[best] < self.min_score:
                break
            factors[waiting] *= 1 - overlap[best, waiting]
            current = scores * factors
        return factors


def soft_nms_of(config: Any, where: object = "config.json") -> SoftNMS | None:
    """What the configuration of a detector says, which lies at ``where``; None where it says
    nothing."""
    threshold = getattr(config, "soft_nms_iou_threshold", None)
    if threshold is None:
        return None
    candidates = getattr(config, "soft_nms_candidates", None)
    least: Any = getattr(config, "soft_nms_min_score", None)
    shares = {"iou_threshold": threshold, "min_score": least}
    for name, value in shares.items():
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise UserError(f"{where}: soft_nms_{name} is {value!r}; expected a number from 0 to 1")
    if type(candidates) is not int or not 1 <= candidates <= MOST:
        raise UserError(
            f"{where}: soft_nms_candidates is {candidates!r}; expected a whole number from 1 to "
            f"{MOST:,}"
        )
    return SoftNMS(candidates, threshold, least)

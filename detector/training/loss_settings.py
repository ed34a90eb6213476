"""The settings of the training loss."""

from dataclasses import dataclass
from typing import Literal

SHARES = ("quality_floor", "quality_predicted")  # from 0 to 1


@dataclass(frozen=True)
class LossSettings:
    """Factors of the loss terms; ``aux`` multiplies the terms of every earlier layer.

    ``quality_floor`` is the least weight of a matched query's classification, which otherwise is
    the GIoU of its box and 0 for a box that is off: then it learns no class until it overlaps.
    ``iou`` and ``quality_predicted`` act on models with an IoU head: the latter is the share of the
    predicted IoU in that weight, the GIoU's being the rest. ``objectness`` and ``denoising_*`` act
    on models with those parts.

    The three settings that are no factors are the baseline's; the thesis' denoising variant takes
    the other value of each. It divides the labels' loss by the number of queries, compares the
    *mean* probability of an object with the number of objects, and pulls unmatched boxes to their
    references, too, in the mean over all queries.
    """

    labels: float = 2.0
    boxes: float = 5.0
    giou: float = 2.5
    center: float = 0.1
    cardinality: float = 0.1
    dense: float = 0.5
    aux: float = 0.4
    quality_floor: float = 0.0
    iou: float = 1.0
    quality_predicted: float = 0.0
    objectness: float = 0.15
    denoising_labels: float = 1.2
    denoising_boxes: float = 0.75
    denoising_giou: float = 0.75
    labels_per: Literal["object", "query"] = "object"
    cardinality_of: Literal["sum", "mean"] = "sum"
    center_of: Literal["matched", "all"] = "matched"

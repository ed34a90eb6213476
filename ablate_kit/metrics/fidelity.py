"""How far detections are from those of the unmodified model, where nobody has labelled the images.

The objects are the unmodified model's own boxes. At the score from which these were taken, each box
of a variant belongs to the object that it overlaps most, by an IoU of 0.5 or more, whatever its
class; one box to an object, those of higher scores first. The unmodified model keeps all of its
boxes, with an IoU of 1: that is no measurement.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.boxes import coco_overlap
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.matching import greedy_pairs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """One of ``Evaluation.overall``, of a variant on images without labels."""

    key: str
    label: str  # in tables
    part: str  # over
    whole: str  # as ``Counts`` has them


MEASURES = (
    Measure("matched_iou", "matched IoU", "overlap", "kept"),
    Measure("class_flips", "class flips", "flipped", "objects"),
    Measure("lost_boxes", "lost", "lost", "objects"),
    Measure("new_boxes", "new", "new", "objects"),
)


@dataclass(frozen=True, eq=False)
class Counts:
    """Of each image."""

    objects: Floats  # the unmodified model's boxes
    kept: Floats  # those that the variant has, too
    overlap: Floats  # sum of the IoU of the two
    flipped: Floats  # those of another class
    lost: Floats  # boxes that it does not have
    new: Floats  # its boxes that the unmodified model does not have


def counts(own: GroundTruth, found: Detections) -> Counts:
    """What became of the unmodified model's boxes, image by image."""
    images = len(own.image_ids)

    def per_image(image: NDArray[np.integer], weights: Floats | None = None) -> Floats:
        return np.bincount(image, weights, minlength=images).astype(np.float64)

    rows = np.flatnonzero(found.scores.astype(np.float64) >= (own.own_score or 0.0))
    taken = greedy_pairs(own, found, rows)
    paired = rows[taken >= 0]
    target = taken[taken >= 0]
    crowd = np.zeros(len(target), dtype=np.bool_)
    overlap = coco_overlap(found.xywh[paired], own.xywh[target], crowd)
    objects, kept = per_image(own.image), per_image(own.image[target])
    return Counts(
        objects=objects,
        kept=kept,
        overlap=per_image(own.image[target], overlap),
        flipped=per_image(own.image[target[found.labels[paired] != own.labels[target]]]),
        lost=objects - kept,
        new=per_image(found.image[rows[taken < 0]]),
    )


def fidelity(own: GroundTruth, found: Detections) -> dict[str, float]:
    """Each of ``MEASURES`` over all images; NaN for the IoU of no pair.

    ``matched_iou``: mean over the boxes that are kept. ``class_flips``, ``lost_boxes`` and
    ``new_boxes``: for each of the unmodified model's boxes.
    """
    of_images = counts(own, found)
    total = {one.name: float(getattr(of_images, one.name).sum()) for one in fields(Counts)}
    return {
        one.key: total[one.part] / total[one.whole] if total[one.whole] else float("nan")
        for one in MEASURES
    }

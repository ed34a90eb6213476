"""The first images of a data set as a data set of their own."""

from dataclasses import replace
from typing import Any

import numpy as np

from ablate_kit.metrics.detections import Detections, GroundTruth

_OF_IMAGES = ("image_ids", "widths", "heights", "clusters")
_OF_OBJECTS = ("image", "boxes", "labels", "ignore", "areas", "ids", "sizes")


def truth_of_first(truth: GroundTruth, images: int) -> GroundTruth:
    """The annotations of the first so many images."""
    if images >= len(truth.image_ids):
        return truth
    objects = int(np.searchsorted(truth.image, images))
    ends = dict.fromkeys(_OF_IMAGES, images) | dict.fromkeys(_OF_OBJECTS, objects)
    cut: dict[str, Any] = {name: getattr(truth, name) for name in ends}
    for name, column in cut.items():
        cut[name] = None if column is None else column[: ends[name]]
    return replace(truth, **cut)


def found_in(found: Detections, start: int, stop: int) -> Detections:
    """The detections in images ``start`` to ``stop``, which is left out."""
    return found.rows((found.image >= start) & (found.image < stop))

"""Some images of a data set as a data set of its own, which may hold an image more than once."""

from collections.abc import Sequence

import numpy as np

from ablate_kit.metrics.detections import Detections, GroundTruth


def take(
    truth: GroundTruth, found: Sequence[Detections], source: np.ndarray
) -> tuple[GroundTruth, list[Detections]]:
    """The images of some places, as images of their own where one is taken twice."""
    images = np.arange(len(source))
    objects = _rows(truth.image, source)
    chosen = np.concatenate(objects)
    sample = GroundTruth(
        image_ids=images,
        widths=truth.widths[source],
        heights=truth.heights[source],
        image=np.repeat(images, [len(one) for one in objects]),
        boxes=truth.boxes[chosen],
        labels=truth.labels[chosen],
        ignore=truth.ignore[chosen],
        areas=truth.areas[chosen],
        ids=np.arange(len(chosen)) + 1,
        classes=truth.classes,
        category_ids=truth.category_ids,
    )
    return sample, [_taken(one, source) for one in found]


def _taken(found: Detections, source: np.ndarray) -> Detections:
    rows = _rows(found.image, source)
    chosen = np.concatenate(rows)
    image = np.repeat(np.arange(len(source)), [len(one) for one in rows])
    return Detections(image, found.boxes[chosen], found.scores[chosen], found.labels[chosen])


def _rows(image: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(image, kind="stable")
    bounds = np.searchsorted(image[order], np.arange(source.max() + 2))
    return [order[bounds[i] : bounds[i + 1]] for i in source]

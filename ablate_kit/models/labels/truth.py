"""A data set's annotations, as metrics take them."""

import numpy as np

from ablate_kit.errors import UserError
from ablate_kit.metrics.clusters import clusters_of
from ablate_kit.metrics.detections import MAX_DETECTIONS, GroundTruth
from ablate_kit.plural import counted
from detector.data.dataset import Dataset


def ground_truth(
    dataset: Dataset, max_detections: int = MAX_DETECTIONS, cluster: str | None = None
) -> GroundTruth:
    """The annotations of a data set in the form that metrics take.

    ``cluster`` tells which images belong together, as ``metrics.clusters`` has it.
    """
    if len(dataset) == 0:
        raise UserError("the data set has no images")
    images = [dataset.annotations(index) for index in range(len(dataset))]
    return GroundTruth(
        image_ids=np.array([one.image_id for one in images], dtype=np.int64),
        widths=np.array([one.width for one in images], dtype=np.int64),
        heights=np.array([one.height for one in images], dtype=np.int64),
        image=np.repeat(np.arange(len(images)), [len(one.labels) for one in images]),
        boxes=np.concatenate([one.boxes for one in images]),
        labels=np.concatenate([one.labels for one in images]),
        ignore=np.concatenate([one.ignore for one in images]),
        areas=np.concatenate([one.areas for one in images]),
        ids=np.concatenate([one.ids for one in images]),
        classes=tuple(dataset.classes),
        category_ids=tuple(dataset.category_ids),
        max_detections=max_detections,
        clusters=clusters_of(cluster, [one.file_name for one in images]) if cluster else None,
    )


def crowded(truth: GroundTruth) -> list[str]:
    """A note on images with more objects than detections are kept of an image, or none."""
    most = truth.max_detections
    full = int((np.bincount(truth.image, minlength=1) > most).sum())
    if not full:
        return []
    have = "has" if full == 1 else "have"
    return [
        f"{counted(full, 'image')} {have} more than {most} objects, and the {most} best detections "
        "of an image are kept: the others count as missed; --max-detections (max_detections of a "
        "recipe's evaluation) sets the limit"
    ]

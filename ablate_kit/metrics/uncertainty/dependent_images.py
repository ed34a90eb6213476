"""Which images of a data set tell of each other: copies of one photograph, frames of one video.

What is chosen on one of them is not out of sample for the other (``calibration``).
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import GroundTruth

_FEWEST = 10  # distinct images, for those that are annotated alike to be copies


def families(truth: GroundTruth) -> NDArray[np.int64]:
    """(images,) the number of the family that an image belongs to.

    Families are numbered by the least id of their images, so that they do not depend on the order
    of images. Where the data set names clusters, they are the families. Else images with the same
    annotations to the last bit are taken for copies of one, unless few images differ at all, as
    where all are drawn alike; an image without objects is its own.
    """
    own = np.arange(len(truth.image_ids))
    by_rank = np.argsort(truth.image_ids, kind="stable")
    if truth.clusters is not None:
        return _numbered(truth.clusters, by_rank)
    copies = _copies(truth)
    return _numbered(copies if len(np.unique(copies)) >= _FEWEST else own, by_rank)


def _numbered(group: NDArray[np.integer], by_rank: NDArray[np.intp]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(group[by_rank], return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    found = np.empty(len(group), dtype=np.int64)
    found[by_rank] = number[inverse]
    return found


def _copies(truth: GroundTruth) -> NDArray[np.int64]:
    """(images,) the first image with the same annotations."""
    bounds = np.searchsorted(truth.image, np.arange(len(truth.image_ids) + 1)).tolist()
    labels, boxes = truth.labels.astype(np.int64), truth.boxes.astype(np.float64)
    seen: dict[tuple[bytes, bytes], int] = {}
    found = np.arange(len(truth.image_ids))
    for i, (start, end) in enumerate(pairwise(bounds)):
        if start < end:
            key = labels[start:end].tobytes(), boxes[start:end].tobytes()
            found[i] = seen.setdefault(key, i)
    return found

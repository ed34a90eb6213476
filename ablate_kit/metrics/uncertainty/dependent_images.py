"""Which images of a data set tell of each other, as the frames of one video do.

They are drawn together, and what is chosen on one of them is not out of sample for the other.
"""

import numpy as np
from numpy.typing import NDArray

from ablate_kit.metrics.detections import GroundTruth


def families(truth: GroundTruth) -> NDArray[np.int64]:
    """(images,) the number of the cluster that an image belongs to, or its own where there is none.

    Numbered by the least id of their images, so that they do not depend on the order of images.
    """
    by_rank = np.argsort(truth.image_ids, kind="stable")
    group = np.arange(len(by_rank)) if truth.clusters is None else truth.clusters
    _, first, inverse = np.unique(group[by_rank], return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    found = np.empty(len(group), dtype=np.int64)
    found[by_rank] = number[inverse]
    return found

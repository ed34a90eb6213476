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


def freedom(sizes: NDArray[np.integer]) -> float:
    """Degrees of freedom of the variance of a mean over clusters of so many images.

    Clusters - 1 of equal ones, fewer where a few hold most of the images: Satterthwaite's, of the
    cluster-robust variance where what clusters say is independent and of one variance (Bell and
    McCaffrey 2002). That variance is a quadratic form Q of them; these are tr(Q)^2 / tr(Q^2).
    """
    if not len(sizes) or sizes.min() == sizes.max():
        return len(sizes) - 1.0
    share = sizes / sizes.sum()
    two, three, four, five = (float((share**power).sum()) for power in (2, 3, 4, 5))
    trace = two - 2 * three + two**2
    of_square = four * (1 + 2 * two) - 4 * five
    of_square += two**4 + 2 * four * two - 4 * two**2 * three + 2 * three**2
    return max(1.0, trace**2 / of_square)

"""Mean, deviation, zeros and non-finite elements of a tensor, streamed from its file."""

import math
from dataclasses import dataclass

import numpy as np

from ablate_kit.checkpoints.archive import Archive
from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.checkpoints.values import read_parts


@dataclass(frozen=True)
class Stats:
    """Of one tensor or several. ``mean``, ``std`` (of the population), ``least`` and ``most`` are
    of the finite elements; NaN where there are none and for complex types, which have no order.
    """

    elements: int
    zeros: int
    nans: int
    infinities: int
    mean: float
    std: float
    least: float
    most: float


def stats(archive: Archive, info: TensorInfo) -> Stats:
    """In memory for a million elements; of a tensor that is not contiguous, for all of it."""
    elements = zeros = nans = infinities = counted = 0
    mean = squares = 0.0
    least, most = math.inf, -math.inf
    ordered = not info.dtype.startswith("complex")
    for part in read_parts(archive, info):
        elements += part.size
        zeros += part.size - int(np.count_nonzero(part))
        finite = np.isfinite(part)
        nans += int(np.count_nonzero(np.isnan(part)))
        infinities += int(np.count_nonzero(np.isinf(part)))
        values = part[finite].astype(np.float64) if ordered else np.empty(0)
        if values.size:
            # Chan, Golub and LeVeque's way to join the moments of parts.
            shift = float(values.mean()) - mean
            total = counted + values.size
            squares += float(((values - values.mean()) ** 2).sum())
            squares += shift * shift * counted * values.size / total
            mean += shift * values.size / total
            counted = total
            least, most = min(least, float(values.min())), max(most, float(values.max()))
    if not counted:
        mean = least = most = squares = math.nan
    std = math.sqrt(squares / counted) if counted else math.nan
    return Stats(elements, zeros, nans, infinities, mean, std, least, most)

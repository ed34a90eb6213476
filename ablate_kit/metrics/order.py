"""Stable orders of whole numbers, by counting instead of comparing where NumPy can."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGIT = 16  # bits that NumPy sorts by counting


def stable_order(keys: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """As ``np.argsort(keys, kind="stable")``; the keys are not negative."""
    order = np.argsort(keys.astype(np.uint16), kind="stable")
    highest = int(keys.max()) if len(keys) else 0
    for shift in range(_DIGIT, highest.bit_length(), _DIGIT):
        digit = (keys[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order


def by_falling(
    scores: NDArray[np.floating[Any]], *keys: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """The order by ``keys``, the last one first of all, and by falling score where they tie; as
    they are given where the scores tie, too."""
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    for key in keys:
        order = order[stable_order(key[order])]
    return order

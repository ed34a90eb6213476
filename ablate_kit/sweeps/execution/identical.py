"""Whether two passes gave the same, bit for bit."""

from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from ablate_kit.sweeps.execution.recorded_output import PLAIN
from detector.tensor_bytes import flat_bytes


def identical(one: Any, other: Any) -> bool:
    """Whether two outputs have the same values, tensors bit for bit; NaN equals itself.

    Raises ``TypeError`` for outputs that hold what cannot be compared.
    """
    (a, like), (b, same) = (pytree.tree_flatten(value) for value in (one, other))
    return like == same and all(_same(x, y) for x, y in zip(a, b, strict=True))


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return (
            x.shape == y.shape and x.dtype == y.dtype and torch.equal(flat_bytes(x), flat_bytes(y))
        )
    if type(x) is not type(y):
        return False
    if isinstance(x, np.ndarray):
        return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()
    if not isinstance(x, PLAIN):
        raise TypeError(f"its outputs hold a {type(x).__name__}, which cannot be compared")
    return x == y or (x != x and y != y)  # NaN

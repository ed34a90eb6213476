"""The values of a tensor in a file as numpy arrays, without torch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.checkpoints.archive import Archive
from ablate_kit.checkpoints.edit.elements import carrier
from ablate_kit.checkpoints.floats import decoded
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.errors import CheckpointError

_WINDOW = 1 << 20  # elements at a time
_MOST_EXPANDED = 1 << 28  # bytes


def read_bits(archive: Archive, info: TensorInfo) -> NDArray[Any]:
    """The whole tensor, of its shape; unsigned integers (or complex) carry its elements' bytes.

    Raises ``CheckpointError`` for an expanded tensor that shows a few bytes as very many.
    """
    if info.overlapping and info.nbytes > _MOST_EXPANDED:
        raise CheckpointError(
            f"tensor {show(info.name, 80)} of {archive.path} shows {info.span} bytes as "
            f"{info.nbytes}; expanded tensors are read up to {_MOST_EXPANDED}"
        )
    buffer = bytearray(info.span)
    archive.read_into(info, memoryview(buffer))
    steps = [step * info.itemsize for step in info.stride]
    return np.ndarray(info.shape, carrier(info.itemsize), buffer, strides=steps)


def read_parts(archive: Archive, info: TensorInfo) -> Iterator[NDArray[Any]]:
    """The values in row-major order, a part at a time, each of one axis.

    float64 for floating types (of any width), complex128 for complex ones, else the type itself.
    """
    if info.contiguous:
        for part in archive.parts(info, _WINDOW * info.itemsize):
            yield decoded(np.frombuffer(part, carrier(info.itemsize)), info.dtype)
    else:
        flat = read_bits(archive, info).reshape(-1)
        for start in range(0, info.numel, _WINDOW):
            yield decoded(flat[start : start + _WINDOW], info.dtype)

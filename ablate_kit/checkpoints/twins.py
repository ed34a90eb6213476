"""Copies of one tensor: branches that share weights in the model, saved as separate bytes.

torch.save writes tensors that are tied once, but a program that moved each of them from a GPU first
has as many equal ones: cutting one then leaves the others as they were.
"""

from .diff import row_major_bytes
from .tensors import TensorInfo
from .weights import Checkpoint

_WINDOW = 1 << 12  # bytes that are read of a tensor before it is found to be another


def twins(checkpoint: Checkpoint, name: str) -> list[str]:
    """The other keys with the same elements at another place of the file.

    None for a tensor of one value: biases that are all zero are not copies of each other.
    """
    own = checkpoint.tensor(name)
    alike = [
        other
        for other, info in checkpoint.tensors.items()
        if (info.shape, info.dtype) == (own.shape, own.dtype) and info.storage != own.storage
    ]
    if not alike or _is_constant(checkpoint, own):
        return []
    return [other for other in alike if _equal(checkpoint, own, checkpoint.tensors[other])]


def _is_constant(checkpoint: Checkpoint, info: TensorInfo) -> bool:
    first = b""
    for chunk in row_major_bytes(checkpoint, info, _WINDOW):
        first = first or chunk[: info.itemsize]
        if chunk != first * (len(chunk) // info.itemsize):
            return False
    return True


def _equal(checkpoint: Checkpoint, one: TensorInfo, other: TensorInfo) -> bool:
    parts = (row_major_bytes(checkpoint, info, _WINDOW) for info in (one, other))
    return all(a == b for a, b in zip(*parts, strict=True))

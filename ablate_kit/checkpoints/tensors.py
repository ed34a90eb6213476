"""Where a tensor's elements lie in a file."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ablate_kit.checkpoints.dtypes import ITEM_SIZES


@dataclass(frozen=True, slots=True)
class Storage:
    """A byte range of a file that one or more tensors are views of.

    Tied tensors have equal storages. For formats that keep a CRC-32 of the range, ``crc`` is what
    the file says it is, None where it says nothing, and ``checksums`` are the byte positions in the
    file at which it does (little-endian, 4 bytes each).
    """

    file: Path
    key: str
    offset: int
    nbytes: int
    crc: int | None = None
    checksums: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorView:
    """A strided view of a storage: a tensor without a name.

    ``offset`` is the byte offset in the file of the view's first element; ``stride`` counts
    elements.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage: Storage

    @property
    def file(self) -> Path:
        return self.storage.file

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return ITEM_SIZES[self.dtype]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, each counted as often as the view shows it."""
        return self.numel * self.itemsize

    @property
    def span(self) -> int:
        """Bytes from the view's first element to the end of its last one in the file."""
        return reach(self.shape, self.stride) * self.itemsize

    @property
    def is_floating(self) -> bool:
        """Whether elements are real floating-point numbers, of any width."""
        return self.dtype.startswith(("float", "bfloat"))

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        axes = zip(self.shape, self.stride, row_major(self.shape), strict=True)
        return self.numel == 0 or all(size == 1 or stride == step for size, stride, step in axes)

    @property
    def overlapping(self) -> bool:
        """Whether two elements may be the same bytes, as in an expanded tensor.

        Conservative like numpy's bounded check: each stride must step over all that the smaller
        strides reach.
        """
        if self.numel == 0:
            return False
        inner = 1
        axes = zip(self.stride, self.shape, strict=True)
        for stride, size in sorted(axis for axis in axes if axis[1] > 1):
            if stride < inner:
                return True
            inner += stride * (size - 1)
        return False


@dataclass(frozen=True, slots=True)
class TensorInfo(TensorView):
    """A named tensor of an archive.

    ``path`` holds the keys that lead to it in the file; ``name`` is these joined with ``"."``.
    """

    name: str
    path: tuple[str, ...]


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor; an axis of size 0 counts as one of size 1."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def reach(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements from the first to the last that a view shows, both included; 0 if it is empty."""
    if 0 in shape:
        return 0
    last = 0
    for size, step in zip(shape, stride, strict=True):
        last += (size - 1) * step
    return last + 1


def is_possible(shape: Iterable[int], dtype: str) -> bool:
    """Whether the bytes of such a tensor can be counted in 63 bits, empty axes left out."""
    nbytes = ITEM_SIZES[dtype]
    for size in shape:
        nbytes *= max(size, 1)
        if nbytes >= 2**63:
            return False
    return True

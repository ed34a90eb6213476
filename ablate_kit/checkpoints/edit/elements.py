"""Overwriting elements of a tensor in a file, through its strides."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.tensors import TensorInfo, reach
from ablate_kit.errors import CheckpointError

if TYPE_CHECKING:  # a whole tensor is overwritten without either
    import numpy as np
    from numpy.typing import NDArray

# Bytes that are read, changed and written back at a time where elements do not lie side by side.
# Not a memory map of the file: on a copy-on-write file system that runs full, writing to one ends
# the process.
_WINDOW = 1 << 20


@dataclass(frozen=True, eq=False)
class ElementPatch:
    """New values for some elements of one tensor of an archive.

    ``index`` selects elements: None for all; forward slices, from the first axis on; or integer
    positions (one axis) in the row-major order of the tensor. ``values`` holds the bytes of as many
    elements as are selected, in row-major order of the selection, or of one element, which all of
    them become; ``detector.tensor_bytes.bytes_of`` gives those of a torch tensor.
    """

    tensor: str
    values: "bytes | bytearray | memoryview | NDArray[Any]"
    index: "tuple[slice, ...] | NDArray[np.integer[Any]] | None" = None


def write_elements(fd: int, info: TensorInfo, change: ElementPatch) -> None:
    """Overwrite what ``change`` selects of tensor ``info`` in the file open at ``fd``.

    Changes the selected elements' bytes and no others. Raises ``CheckpointError`` for an index or
    values that do not fit the tensor, and for an expanded tensor unless all its elements become one
    value.
    """
    values = _raw(change.values)
    if not (change.index is None or isinstance(change.index, tuple)):
        positions = _positions(info, change.index)
        _check_length(info, len(values), positions.size)
        if positions.size:
            _refuse_overlaps(info)
            _write_scattered(fd, info, positions, _carried(values, info.itemsize))
        return
    selected = _sliced(info, change.index or ())
    _check_length(info, len(values), selected.numel)
    if selected.numel == 0:
        return
    if change.index is None and len(values) == info.itemsize:
        # With the elements that an expanded axis repeats once.
        axes = zip(selected.shape, selected.stride, strict=True)
        selected = replace(selected, shape=tuple(size if step else 1 for size, step in axes))
    _refuse_overlaps(selected)
    if selected.contiguous:
        write_through(fd, selected.offset, values, selected.nbytes)
    else:
        _write_strided(fd, selected, _carried(values, info.itemsize))


def _positions(info: TensorInfo, index: "NDArray[Any]") -> "NDArray[np.int64]":
    """Element offsets, from the tensor's first one, of row-major positions."""
    import numpy as np

    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise CheckpointError(
            f"elements of tensor {show(info.name, 80)} are selected by one axis of integers, "
            f"not by {index.ndim} of {index.dtype}"
        )
    if index.size and (index.min() < 0 or index.max() >= info.numel):
        raise CheckpointError(
            f"tensor {show(info.name, 80)} has elements 0 to {info.numel - 1}; selected are "
            f"{index.min()} to {index.max()}"
        )
    flat = index.astype(np.int64)
    if info.contiguous:
        return flat
    axes = np.unravel_index(flat, info.shape)
    total = np.zeros_like(flat)
    for axis, step in zip(axes, info.stride, strict=True):
        total += axis * step
    return total


def _sliced(info: TensorInfo, slices: tuple[slice, ...]) -> TensorInfo:
    if len(slices) > len(info.shape):
        raise CheckpointError(
            f"tensor {show(info.name, 80)} has {len(info.shape)} axes; slices for {len(slices)} "
            "are given"
        )
    shape, stride, offset = list(info.shape), list(info.stride), info.offset
    for axis, one in enumerate(slices):
        if one.step is not None and one.step < 1:
            raise CheckpointError(f"{one} of tensor {show(info.name, 80)} does not step forward")
        taken = range(*one.indices(info.shape[axis]))
        offset += taken.start * info.stride[axis] * info.itemsize
        shape[axis] = len(taken)
        stride[axis] = info.stride[axis] * taken.step
    return replace(info, shape=tuple(shape), stride=tuple(stride), offset=offset)


def _refuse_overlaps(info: TensorInfo) -> None:
    if info.overlapping:
        raise CheckpointError(
            f"elements of tensor {show(info.name, 80)} share bytes (shape {info.shape}, strides "
            f"{info.stride}); only all elements of an expanded tensor can be set, to one value"
        )


def write_through(fd: int, offset: int, values: memoryview, nbytes: int) -> None:
    """``values``, or the one element in it as often as needed, into ``nbytes`` bytes."""
    if len(values) < nbytes:
        values = memoryview(bytes(values) * (min(_WINDOW, nbytes) // len(values)))
    done = 0
    while done < nbytes:
        # A write may end anywhere; the next one goes on from there in the repeated values.
        rest = values[done % len(values) :]
        done += os.pwrite(fd, rest[: nbytes - done], offset + done)


def _write_strided(fd: int, info: TensorInfo, values: "NDArray[Any]") -> None:
    import numpy as np

    kept = [axis for axis, size in enumerate(info.shape) if size != 1]
    shape = [info.shape[axis] for axis in kept]
    new = np.broadcast_to(values, shape) if values.size == 1 else values.reshape(shape)
    # Slabs along the axis of the largest stride lie one behind the other in the file.
    order = sorted(range(len(kept)), key=lambda axis: -info.stride[kept[axis]])
    new = new.transpose(order)
    stride = tuple(info.stride[kept[axis]] for axis in order)
    slab = reach(new.shape[1:], stride[1:])
    count = 1 + max(0, _WINDOW // info.itemsize - slab) // stride[0]
    for first in range(0, len(new), count):
        part = new[first : first + count]
        start = info.offset + first * stride[0] * info.itemsize
        window = bytearray(os.pread(fd, reach(part.shape, stride) * info.itemsize, start))
        steps = [step * info.itemsize for step in stride]
        np.ndarray(part.shape, part.dtype, window, strides=steps)[...] = part
        write_through(fd, start, memoryview(window), len(window))


def _write_scattered(
    fd: int, info: TensorInfo, positions: "NDArray[np.int64]", values: "NDArray[Any]"
) -> None:
    import numpy as np

    # Stable, so that of two values for one element the later wins.
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    values = values[order] if values.size > 1 else values
    windows = positions // (_WINDOW // info.itemsize)
    starts = np.flatnonzero(np.diff(windows, prepend=-1))
    for begin, end in zip(starts, [*starts[1:], len(positions)], strict=True):
        first, last = int(positions[begin]), int(positions[end - 1])
        start = info.offset + first * info.itemsize
        window = bytearray(os.pread(fd, (last - first + 1) * info.itemsize, start))
        elements = np.frombuffer(window, values.dtype)
        elements[positions[begin:end] - first] = values[begin:end] if values.size > 1 else values
        write_through(fd, start, memoryview(window), len(window))


def _raw(values: "bytes | bytearray | memoryview | NDArray[Any]") -> memoryview:
    if isinstance(values, bytes | bytearray | memoryview):
        return memoryview(values).cast("B")
    import numpy as np

    return np.frombuffer(values, np.uint8).data


def _carried(values: memoryview, itemsize: int) -> "NDArray[Any]":
    import numpy as np

    return np.frombuffer(values, carrier(itemsize))


def carrier(itemsize: int) -> "np.dtype[Any]":
    """A type that moves the bytes of one element unchanged, whatever they mean."""
    import numpy as np

    return np.dtype(f"u{itemsize}" if itemsize <= 8 else f"c{itemsize}")


def _check_length(info: TensorInfo, nbytes: int, selected: int) -> None:
    if nbytes not in (info.itemsize, selected * info.itemsize):
        raise CheckpointError(
            f"{selected} {info.dtype} elements of tensor {show(info.name, 80)} need "
            f"{selected * info.itemsize} bytes, or {info.itemsize} for one value; "
            f"{nbytes} are given"
        )

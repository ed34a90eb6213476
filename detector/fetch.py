"""Bringing results of a device here."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.tensor_bytes import flat_bytes

_UNIT = 8  # bytes, of which every type's place must be a multiple


def fetched(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in this machine's memory, in one transfer: each transfer waits for the device."""
    if all(one.device.type == "cpu" for one in tensors):
        return list(tensors)
    return unpacked(packed(tensors).cpu(), tensors)


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of tensors of any types, one after the other."""
    flat = map(flat_bytes, tensors)
    return torch.cat([F.pad(one, (0, -len(one) % _UNIT)) for one in flat])


def unpacked(data: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Tensors with the shapes and types of ``like`` from their ``packed`` bytes."""
    found, at = [], 0
    for one in like:
        found.append(data[at : at + one.nbytes].view(one.dtype).view(one.shape))
        at += one.nbytes + -one.nbytes % _UNIT
    return found

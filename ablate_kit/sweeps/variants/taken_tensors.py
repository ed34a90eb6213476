"""Tensors that variants take from another checkpoint."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ablate_kit.models.adapter import Adapter
from detector.tensor_bytes import flat_bytes, tensor_digest


@dataclass(frozen=True, eq=False)
class TakenTensor:
    value: Tensor

    @cached_property
    def digest(self) -> str:
        """Computed once, however many variants take it."""
        return tensor_digest(self.value)


def different_tensors(first: Adapter, other: Adapter) -> dict[str, TakenTensor]:
    """The tensors of ``other`` whose bytes differ, by names in ``module.state_dict()``.

    Tied weights are there once, by the first of their names: a class head that a decoder and the
    model itself both hold is no part of two modules.
    """
    here, there = first.module.state_dict(), other.module.state_dict()
    names: dict[object, str] = {}
    for name, tensor in here.items():
        memory = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        names.setdefault(memory, name)
    return {
        name: TakenTensor(there[name].clone())
        for name in names.values()
        if not torch.equal(flat_bytes(here[name]), flat_bytes(there[name]))
    }

"""Names, which outlive a process, for the tensors and modules of a model and for their calls."""

from typing import NamedTuple

import torch
from torch import nn

Key = tuple[str, str]  # ("tensor", its name) or ("output", of the module of this name)


class CallId(NamedTuple):
    """A call of a module within a pass; the same in every process."""

    module: str  # its name in the model
    number: int  # among the calls of that module, from 0


class Identities:
    """Names for the tensors and modules of a model.

    Tensors that are the same memory are one: they go by the first of their names. Tensors must not
    move as long as this is in use.

    Attributes:
        modules: name of each module.
        owned: for each module name the tensors of the module, without those of its own modules.
        by_storage: the key of each address.
        tensors: by their keys; several are of one memory.
    """

    def __init__(self, module: nn.Module) -> None:
        self.modules: dict[nn.Module, str] = {}
        self.owned: dict[str, list[Key]] = {}
        self.by_storage: dict[int, Key] = {}
        self.tensors: dict[Key, list[torch.Tensor]] = {}
        for name, owner in module.named_modules():
            self.modules[owner] = name
            tensors = {**owner._parameters, **owner._buffers}
            prefix = f"{name}." if name else ""
            self.owned[name] = [
                self.by_storage.setdefault(address(tensor), ("tensor", prefix + own))
                for own, tensor in tensors.items()
                if tensor is not None and tensor.numel()
            ]
            for tensor in tensors.values():
                if tensor is not None and tensor.numel():
                    self.tensors.setdefault(self.by_storage[address(tensor)], []).append(tensor)

    def tensor(self, name: str, tensor: torch.Tensor) -> Key:
        """Of a tensor of the model's ``state_dict``."""
        return self.by_storage.get(address(tensor), ("tensor", name))

    def output(self, module: nn.Module) -> Key:
        """Of what a module returns, where that is changed after its call."""
        return ("output", self.modules[module])


def address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

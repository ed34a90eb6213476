"""What a module call returned, kept to be returned again."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ablate_kit.sweeps.execution.identities import CallId

# A recorded value may consist of these; anything else might change or hold what we cannot see.
PLAIN = (int, float, bool, str, bytes, complex, type(None), torch.Size, torch.dtype, torch.device)


@dataclass(eq=False)
class CachedOutput:
    """The value that a module call returned, kept to be returned again."""

    leaves: list[Any]
    structure: Any
    versions: list[int]  # of the leaves, when the call ended
    copies: bool  # whether the leaves are copies, and only copies of them are handed out

    @staticmethod
    def of(value: Any, copies: bool) -> "CachedOutput":
        leaves, structure = pytree.tree_flatten(value)
        if copies:
            leaves = [_copied(leaf) for leaf in leaves]
        return CachedOutput(leaves, structure, _versions(leaves), copies)

    def value(self) -> Any:
        leaves = [_copied(leaf) for leaf in self.leaves] if self.copies else self.leaves
        return pytree.tree_unflatten(leaves, self.structure)

    def repeated(self, times: int, of_images: Collection[int]) -> Any:
        """The value of a pass over all images ``times`` over; the first axis of these leaves is
        that of the images."""
        leaves = [
            leaf.repeat(times, *[1] * (leaf.dim() - 1)) if i in of_images else _copied(leaf)
            for i, leaf in enumerate(self.leaves)
        ]
        return pytree.tree_unflatten(leaves, self.structure)

    @property
    def intact(self) -> bool:
        """Whether no operation wrote into the leaves since."""
        return self.versions == _versions(self.leaves)


# Of the calls of one pass, on the device where the model runs.
Outputs = dict[CallId, CachedOutput]


def _copied(leaf: Any) -> Any:
    """A copy that lies in memory as the original does: kernels round by it.

    What is expanded stays so, and gaps between rows stay.
    """
    if not isinstance(leaf, torch.Tensor) or leaf.layout != torch.strided:
        return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf
    dense = once(leaf)
    end = 1
    for stride, size in sorted(zip(dense.stride(), dense.shape, strict=True)):
        if size > 1 and stride < end:
            return leaf.clone()  # rows that overlap cannot be written
        end += stride * (size - 1)
    copy = torch.empty_strided(
        dense.shape, dense.stride(), dtype=leaf.dtype, device=leaf.device
    ).copy_(dense)
    return copy.expand(leaf.shape)


def once(tensor: torch.Tensor) -> torch.Tensor:
    """Without the repetitions of an expanded tensor."""
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[axis] > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _versions(leaves: Iterable[Any]) -> list[int]:
    return [leaf._version for leaf in leaves if isinstance(leaf, torch.Tensor)]

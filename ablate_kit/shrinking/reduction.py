"""What of each tensor is gone: a value that is built up structure by structure, then applied."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ablate_kit.ablations.attention import TensorLike
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.shrinking.structures import RemovedModule, Structure
from ablate_kit.shrinking.zeroed import Zeroed

Shape = tuple[int, ...]


@dataclass
class Reduction:
    """
    Attributes:
        tensors: of the checkpoint.
        zeroed: what the ablation makes of them.
        structures: what is taken out.
        gone: for each tensor and axis, the indices that are taken out.
        dropped: tensors that are gone as a whole.
        renamed: new names of tensors, where layers before them are gone.
        heads: how many are left of each attention module that loses some, by its prefix, and the
            names of its tensors.
        why_not: why channels of convolutions stay, where they do.
        settings: of the hybrid detector's configuration, what is known to be other than before.
    """

    tensors: Mapping[str, TensorLike]
    zeroed: Zeroed
    structures: list[Structure] = field(default_factory=list)
    gone: dict[str, dict[int, set[int]]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    heads: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    why_not: str = ""
    settings: dict[str, object] = field(default_factory=dict)

    def take(self, tensor: str, axis: int, indices: Iterable[int]) -> None:
        self.gone.setdefault(tensor, {}).setdefault(axis, set()).update(indices)

    def drop(self, prefix: str) -> None:
        """All tensors of a module."""
        inside = f"{prefix}."
        self.dropped |= {one for one in self.tensors if one == prefix or one.startswith(inside)}

    def remove(self, module: str, what: str) -> None:
        """A module, and says so: that it is a branch, a block, or a module by itself."""
        self.drop(module)
        self.structures.append(RemovedModule(module, what))

    def absorb(self, other: "Reduction") -> None:
        """What the other takes out of tensors, too."""
        self.structures += other.structures
        for tensor, axes in other.gone.items():
            for axis, indices in axes.items():
                self.take(tensor, axis, indices)

    def shapes(self) -> dict[str, Shape]:
        """Of all tensors that are left, under their new names."""
        return {
            self.renamed.get(name, name): tuple(
                size - len(self.gone.get(name, {}).get(axis, ()))
                for axis, size in enumerate(info.shape)
            )
            for name, info in self.tensors.items()
            if name not in self.dropped
        }

    def applied(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor as the ablation leaves it, without what is gone."""
        if name in self.zeroed.biases:
            tensor = torch.tensor(self.zeroed.biases[name], dtype=torch.double).to(tensor.dtype)
        if name in self.zeroed.masks:
            tensor = tensor.masked_fill(torch.from_numpy(self.zeroed.masks[name]), 0.0)
        for axis, indices in self.gone.get(name, {}).items():
            kept = [i for i in range(tensor.shape[axis]) if i not in indices]
            tensor = tensor.index_select(axis, torch.tensor(kept, dtype=torch.long))
        return tensor.contiguous()

    def tensors_left(self, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        """All of the smaller model, under their new names."""
        names = (name for name in checkpoint.tensors if name not in self.dropped)
        return {
            self.renamed.get(name, name): self.applied(name, checkpoint.read(name))
            for name in names
        }

    def left_over(self) -> dict[str, int]:
        """How many elements of each tensor become zero and are still there."""
        found = {}
        for name, mask in self.zeroed.masks.items():
            if name in self.dropped:
                continue
            rest = mask.copy()
            for axis, indices in self.gone.get(name, {}).items():
                rest[(slice(None),) * axis + (sorted(indices),)] = False
            if count := int(np.count_nonzero(rest)):
                found[name] = count
        return found

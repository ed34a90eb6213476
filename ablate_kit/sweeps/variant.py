"""What a sweep evaluates: a live model with something changed for a while."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply import applied, resolved
from ablate_kit.sweeps.trace import key_of

Changes = Mapping[Hashable, Hashable]


class Variant(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...

    def changes(self, module: nn.Module) -> Changes:
        """For all that differs from the unmodified model, by ``trace.key_of``, a value that is
        equal for two variants where they change it alike."""

    def applied(self, module: nn.Module) -> AbstractContextManager[None]:
        """``module`` so changed, and after the block with its exact bytes of before."""


@dataclass(frozen=True)
class Ablated:
    """A model with an ablation; ``live_names`` as in ``Adapter``."""

    ablation: Ablation
    live_names: Mapping[str, Sequence[str]]

    @property
    def name(self) -> str:
        return self.ablation.name

    @property
    def kind(self) -> str:
        return self.ablation.kind

    def changes(self, module: nn.Module) -> Changes:
        tensors = module.state_dict(keep_vars=True)
        found: dict[Hashable, tuple[Hashable, ...]] = {}
        for edit in self.ablation.edits:
            for there in resolved(edit, tensors, self.live_names):
                key = key_of(tensors[there])
                found[key] = (*found.get(key, ()), (there, edit))
        return found

    def applied(self, module: nn.Module) -> AbstractContextManager[None]:
        return applied(module, self.ablation, self.live_names)


@dataclass(frozen=True, eq=False)
class Replaced:
    """A model with some of its tensors taken from another checkpoint of the same model."""

    name: str
    kind: str
    tensors: Mapping[str, torch.Tensor]  # by their names in ``module.state_dict()``

    def changes(self, module: nn.Module) -> Changes:
        live = module.state_dict(keep_vars=True)
        # Of two checkpoints' tensors it is not known whether they are equal: only itself is.
        return {key_of(live[name]): (id(self), name) for name in self.tensors}

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        live = module.state_dict()
        before = {name: live[name].clone() for name in self.tensors}
        try:
            for name, tensor in self.tensors.items():
                live[name].copy_(tensor)
            yield
        finally:
            for name, tensor in before.items():
                live[name].copy_(tensor)

"""What a sweep evaluates: a live model with something changed for a while."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply import edited, resolved
from ablate_kit.sweeps.trace import key_of

Changes = Mapping[Hashable, Hashable]
State = Mapping[str, torch.Tensor]  # of the live model, ``state_dict(keep_vars=True)``


class Variant(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...

    def changes(self, state: State) -> Changes:
        """For all that differs from the unmodified model, by ``trace.key_of``, a value that is
        equal for two variants where they change it alike."""

    def applied(self, state: State) -> AbstractContextManager[None]:
        """The model so changed, and after the block with its exact bytes of before."""


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

    def changes(self, state: State) -> Changes:
        found: dict[Hashable, tuple[Hashable, ...]] = {}
        for edit in self.ablation.edits:
            for there in resolved(edit, state, self.live_names):
                key = key_of(state[there])
                found[key] = (*found.get(key, ()), (there, edit))
        return found

    def applied(self, state: State) -> AbstractContextManager[None]:
        return edited(state, self.ablation, self.live_names)


@dataclass(frozen=True, eq=False)
class Replaced:
    """A model with some of its tensors taken from another checkpoint of the same model."""

    name: str
    kind: str
    tensors: Mapping[str, torch.Tensor]  # by their names in ``module.state_dict()``

    def changes(self, state: State) -> Changes:
        # Of two checkpoints' tensors it is not known whether they are equal: only itself is.
        return {key_of(state[name]): (id(self), name) for name in self.tensors}

    @contextmanager
    def applied(self, state: State) -> Iterator[None]:
        live = {name: state[name].detach() for name in self.tensors}
        before = {name: live[name].clone() for name in self.tensors}
        try:
            for name, tensor in self.tensors.items():
                live[name].copy_(tensor)
            yield
        finally:
            for name, tensor in before.items():
                live[name].copy_(tensor)

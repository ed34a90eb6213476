"""What a sweep evaluates: a live model with something changed for a while."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation, Intervention, Removed
from ablate_kit.ablations.apply import applied, edited, resolved
from ablate_kit.ablations.intervene import place_of
from ablate_kit.models.adapter import Adapter
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
    """A model with an ablation; ``live_names`` and ``module`` as in ``Adapter``.

    The module is only needed for what an ablation does beyond setting elements.
    """

    ablation: Ablation
    live_names: Mapping[str, Sequence[str]]
    module: nn.Module | None = None

    def __post_init__(self) -> None:
        if self.ablation.live and self.module is None:
            raise ValueError(f"{self.name} needs the module")

    @staticmethod
    def of(ablation: Ablation, adapter: Adapter) -> "Ablated":
        return Ablated(ablation, adapter.live_names(), adapter.module)

    @property
    def name(self) -> str:
        return self.ablation.name

    @property
    def kind(self) -> str:
        return self.ablation.kind

    def changes(self, state: State) -> Changes:
        found: dict[Hashable, tuple[Hashable, ...]] = {}
        for edit in self.ablation.edits:
            for there in resolved(edit.tensor, state, self.live_names):
                key = key_of(state[there])
                found[key] = (*found.get(key, ()), (there, edit))
        for one in self.ablation.live:
            for there in resolved(one.tensor, state, self.live_names):
                key = self._key(one, there, state)
                found[key] = (*found.get(key, ()), (there, one))
        return found

    def applied(self, state: State) -> AbstractContextManager[None]:
        if self.module is None:
            return edited(state, self.ablation, self.live_names)
        return applied(self.module, self.ablation, self.live_names)

    def _key(self, one: Intervention, there: str, state: State) -> Hashable:
        if self.module is None or isinstance(one, Removed):
            return key_of(state[there])
        return place_of(self.module, there) or key_of(state[there])


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

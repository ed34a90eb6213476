"""What a sweep evaluates: a detector with something changed, as a plain value.

A variant says what differs; applying it to a live model is the executor's business.
"""

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.draws import Draws
from ablate_kit.ablations.edits import Removed
from ablate_kit.ablations.factors import Factors
from ablate_kit.ablations.hooks import hooked_module
from ablate_kit.ablations.kept_values import forget_kept
from ablate_kit.ablations.name_patterns import to_model_keys
from ablate_kit.metrics.result import BASELINE
from ablate_kit.sweeps.execution.identities import Identities, Key
from ablate_kit.sweeps.execution.plan import Delta
from detector.tensor_bytes import tensor_digest

LiveNames = Mapping[str, Sequence[str]]  # as of ``Adapter.live_names``


@dataclass(frozen=True, eq=False)
class Variant:
    """A detector with tensors of another checkpoint, an ablation, both, or neither.

    Attributes:
        tensors: what comes from the other checkpoint, by names in ``module.state_dict()``.
        ablation: what is cut, after that.
        factors: its coordinates, as of an ablation.
    """

    name: str
    kind: str
    ablation: Ablation | None = None
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    factors: Factors = field(default_factory=dict)

    @staticmethod
    def of(ablation: Ablation) -> "Variant":
        return Variant(ablation.name, ablation.kind, ablation, factors=ablation.factors)

    @cached_property
    def digest(self) -> str:
        """Equal for variants that do the same, whatever their names; empty for the unmodified."""
        parts = [f"{name} {digest}" for name, digest in self._digests.items()]
        if not parts:
            return self.ablation.digest if self.ablation else ""
        parts.append(self.ablation.digest if self.ablation else "")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def _digests(self) -> Mapping[str, str]:
        return {name: tensor_digest(self.tensors[name]) for name in sorted(self.tensors)}

    def delta(self, module: nn.Module, identities: Identities, live_names: LiveNames) -> Delta:
        """For all that differs from the unmodified model a value that is equal for two variants
        where they change it alike."""
        state = module.state_dict(keep_vars=True)
        found: dict[Key, tuple[Hashable, ...]] = {}

        def add(key: Key, what: Hashable) -> None:
            found[key] = (*found.get(key, ()), what)

        for name, digest in self._digests.items():
            add(identities.tensor(name, state[name]), (name, digest))
        if self.ablation:
            for edit in self.ablation.edits:
                for there in to_model_keys(edit.tensor, state, live_names):
                    add(identities.tensor(there, state[there]), (there, edit))
            for one in self.ablation.live:
                for there in to_model_keys(one.tensor, state, live_names):
                    place = None if isinstance(one, Removed) else hooked_module(module, there)
                    tensor = identities.tensor(there, state[there])
                    add(identities.output(place) if place else tensor, (there, one))
        return found

    @contextmanager
    def applied_to(
        self,
        module: nn.Module,
        live_names: LiveNames,
        draws: Draws | None = None,
        state: Mapping[str, torch.Tensor] | None = None,
    ) -> Iterator[None]:
        """The model so changed, and after the block with its exact bytes of before.

        ``draws`` keeps what is drawn, for the next batch; ``state`` is that of ``applied``.
        """
        with _replaced(module, self.tensors):
            if self.ablation is None:
                yield
                return
            with applied(module, self.ablation, live_names, draws, state):
                yield


UNMODIFIED = Variant(BASELINE, BASELINE)


@contextmanager
def _replaced(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    if not tensors:
        yield
        return
    state = module.state_dict()
    before = {name: state[name].clone() for name in tensors}
    try:
        for name, tensor in tensors.items():
            state[name].copy_(tensor)
        forget_kept(module)
        yield
    finally:
        for name, tensor in before.items():
            state[name].copy_(tensor)
        forget_kept(module)

"""A variant on a live model: what it changes there, and the model so changed."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.draws import Draws
from ablate_kit.ablations.edits import Removed
from ablate_kit.ablations.hooks import hooked_module
from ablate_kit.ablations.kept_values import forget_kept
from ablate_kit.ablations.name_patterns import to_model_keys
from ablate_kit.sweeps.execution.identities import Identities, Key
from ablate_kit.sweeps.execution.plan import Delta
from ablate_kit.sweeps.variants.taken_tensors import TakenTensor
from ablate_kit.sweeps.variants.variant import Variant

LiveNames = Mapping[str, Sequence[str]]  # as of ``Adapter.live_names``


def delta_of(
    variant: Variant, module: nn.Module, identities: Identities, live_names: LiveNames
) -> Delta:
    """For all that differs from the unmodified model a value that is equal for two variants where
    they change it alike."""
    state = module.state_dict(keep_vars=True)
    found: dict[Key, tuple[Hashable, ...]] = {}

    def add(key: Key, what: Hashable) -> None:
        found[key] = (*found.get(key, ()), what)

    for name in sorted(variant.tensors):
        add(identities.tensor(name, state[name]), (name, variant.tensors[name].digest))
    if variant.ablation:
        for edit in variant.ablation.edits:
            for there in to_model_keys(edit.tensor, state, live_names, whole=edit.alike):
                add(identities.tensor(there, state[there]), (there, edit))
        for one in variant.ablation.live:
            for there in to_model_keys(one.tensor, state, live_names):
                place = None if isinstance(one, Removed) else hooked_module(module, there)
                tensor = identities.tensor(there, state[there])
                add(identities.output(place) if place else tensor, (there, one))
    return found


@contextmanager
def applied_variant(
    variant: Variant,
    module: nn.Module,
    live_names: LiveNames,
    draws: Draws | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """The model so changed, and after the block with its exact bytes of before.

    ``draws`` keeps what is drawn, for the next batch; ``state`` is that of ``applied``.
    """
    with _replaced(module, variant.tensors):
        if variant.ablation is None:
            yield
            return
        with applied(module, variant.ablation, live_names, draws, state):
            yield


@contextmanager
def _replaced(module: nn.Module, tensors: Mapping[str, TakenTensor]) -> Iterator[None]:
    if not tensors:
        yield
        return
    state = module.state_dict()
    before = {name: state[name].clone() for name in tensors}
    try:
        for name, tensor in tensors.items():
            state[name].copy_(tensor.value)
        forget_kept(module)
        yield
    finally:
        for name, kept in before.items():
            state[name].copy_(kept)
        forget_kept(module)

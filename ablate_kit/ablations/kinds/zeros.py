"""Whole tensors that become zero. It imports little, so that ``ablate component`` starts fast."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.factors import Factors
from ablate_kit.anatomy.weight_norm import magnitude_of


def component(
    tensors: Iterable[str],
    label: str,
    factors: Factors | None = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Ablation:
    """These tensors become zero."""
    edits = tuple(zeroed(tensors, shapes))
    return Ablation(label, "component", edits, factors=factors or {"target": label})


def zeroed(tensors: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Edit]:
    """Every element of these tensors becomes zero; but for directions of weights whose magnitude is
    among them and makes the weights zero: at zero, these would be NaN."""
    names = dict.fromkeys(tensors)
    return (Edit(name) for name in names if magnitude_of(name, shapes) not in names)

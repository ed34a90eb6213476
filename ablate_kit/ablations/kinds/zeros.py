"""Whole tensors that become zero. It imports little, so that ``ablate component`` starts fast."""

from collections.abc import Iterable

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.factors import Factors


def component(tensors: Iterable[str], label: str, factors: Factors | None = None) -> Ablation:
    """Every element of these tensors becomes zero."""
    edits = tuple(Edit(name) for name in tensors)
    return Ablation(label, "component", edits, factors=factors or {"target": label})

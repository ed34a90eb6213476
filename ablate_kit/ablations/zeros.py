"""Whole tensors that become zero; apart from the rule, so that ``ablate component`` starts fast."""

from collections.abc import Iterable

from ablate_kit.ablations.ablation import Ablation, Edit


def component(tensors: Iterable[str], label: str) -> Ablation:
    """Every element of these tensors becomes zero."""
    return Ablation(label, "component", tuple(Edit(name) for name in tensors))

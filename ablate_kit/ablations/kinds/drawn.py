"""One of several random draws of an ablation."""

from collections.abc import Iterable

from ablate_kit.ablations.ablation import Ablation, Edit, Intervention
from ablate_kit.ablations.factors import Factors, of_draw


def drawn(
    group: str,
    draw: int,
    kind: str,
    edits: Iterable[Edit],
    factors: Factors,
    live: Iterable[Intervention] = (),
) -> Ablation:
    """Draw number ``draw`` of what ``group`` names, and reports read together."""
    coordinates = {**factors, **of_draw(group, draw)}
    return Ablation(f"{group}-r{draw}", kind, tuple(edits), tuple(live), coordinates)

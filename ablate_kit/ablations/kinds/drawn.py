"""Random draws of an ablation, of a share of what there is."""

from collections.abc import Iterable

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit, Intervention
from ablate_kit.ablations.factors import Factors, of_draw
from ablate_kit.errors import UserError


def share(total: int, percent: float) -> int:
    """So many percent of ``total``, rounded down."""
    # 7 % of 100 is 7, though 100 * 7 / 100 might come out as 6.999...
    return int(total * percent / 100 + 1e-9)


def check_percent(percent: float) -> None:
    """Raises ``UserError`` for a share that cuts nothing, or more than there is."""
    if not 0 < percent <= 100:
        raise UserError(f"percent is {percent:g}; expected more than 0 and at most 100")


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

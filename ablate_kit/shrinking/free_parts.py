"""Which of a run's free variants a smaller model can be without, and all of those at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.factors import members_in
from ablate_kit.ablations.kinds.means import with_parts
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.shrinking.free_variants import FreeVariants
from ablate_kit.shrinking.smaller_checkpoint import reduce, resizable
from ablate_kit.shrinking.zeroed import StaysError


@dataclass(frozen=True)
class FreeParts:
    """``taken`` can be taken out, and ``ablation`` is all of them at once; ``kept`` says why
    another variant that is free stays, by its name."""

    ablation: Ablation
    taken: tuple[Ablation, ...]
    kept: Mapping[str, str]


def free_parts(
    checkpoint: Checkpoint, adapter: Adapter, free: FreeVariants, run: Path
) -> FreeParts:
    """Joins what can be taken out; raises ``UserError`` where nothing can."""
    resizable(checkpoint, adapter)
    taken: list[Ablation] = []
    kept: dict[str, str] = {}
    # Cuts of several at once come last: what they can do beyond their members, one by one.
    for one in sorted(free.ablations, key=lambda one: bool(members_in(one.factors))):
        members = members_in(one.factors)
        if members and {each.name for each in taken}.issuperset(members):
            continue
        one = with_parts(one, checkpoint)
        try:
            _check(checkpoint, adapter, one)
            joined(*taken, one)
            taken.append(one)
        except StaysError as error:
            kept[one.name] = error.reason
        except UserError as error:
            kept[one.name] = str(error)
    if not taken:
        # A mean of what is no head never can: what else stands in the way is told first.
        name = min(kept, key=lambda one: "other values" in kept[one])
        raise UserError(f"nothing that {run} found free can be taken out; {name}: {kept[name]}")
    return FreeParts(joined(*taken, name=f"free-parts-of-{run.name}"), tuple(taken), kept)


def _check(checkpoint: Checkpoint, adapter: Adapter, ablation: Ablation) -> None:
    """Raises ``UserError`` for what zeroes nothing that can be taken out; what is left of a part,
    such as the last head of a branch, stays as zeros."""
    reduction = reduce(checkpoint, adapter, ablation)
    if not reduction.structures:
        why = "it zeroes no whole head, hidden unit, query, branch, layer or channel"
        raise UserError(reduction.why_not or why)

"""Which of a run's free variants a smaller model can be without, and all of those at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.framework_registry import anatomy_of
from ablate_kit.shrinking.smaller_checkpoint import reduce
from ablate_kit.shrinking.variants import FreeVariants, joined
from ablate_kit.shrinking.zeroed import zeroed


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
    taken: list[Ablation] = []
    kept: dict[str, str] = {}
    for one in free.ablations:
        try:
            _check(checkpoint, adapter, one)
            joined([*taken, one])
            taken.append(one)
        except UserError as error:
            kept[one.name] = str(error)
    if not taken:
        name, why = next(iter(kept.items()))
        raise UserError(f"nothing that {run} found free can be taken out; {name}: {why}")
    return FreeParts(joined(taken, f"free-parts-of-{run.name}"), tuple(taken), kept)


def _check(checkpoint: Checkpoint, adapter: Adapter, ablation: Ablation) -> None:
    """Raises ``UserError`` for what zeroes more, or less, than parts that can be taken out."""
    gone = zeroed(ablation, checkpoint.tensors)
    reduction = reduce(checkpoint, adapter, ablation, gone, anatomy_of(checkpoint))
    left = reduction.left_over(gone)
    if not reduction.structures:
        why = "it zeroes no whole head, hidden unit, query, branch, layer or channel"
        raise UserError(reduction.why_not or why)
    if left:
        name, count = next(iter(left.items()))
        why = f"only part of it can: {count:,} elements of {name} would stay, as zeros"
        raise UserError(reduction.why_not or why)

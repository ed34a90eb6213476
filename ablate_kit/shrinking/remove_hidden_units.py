"""Units between the two layers of a feed-forward branch, taken out."""

from collections.abc import Mapping

from ablate_kit.ablations.attention import TensorLike
from ablate_kit.anatomy.feed_forwards import FeedForward, feed_forwards
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.structures import RemovedUnits


def take_hidden_units(reduction: Reduction) -> None:
    """Takes out every unit whose output plays no part: what leads on from it is zero, or what
    leads to it is, and zero goes through the activation as zero.

    One unit stays of a branch that would have none, with its zeros.
    """
    tensors = reduction.tensors
    for branch in feed_forwards(tensors):
        if branch.last in reduction.dropped:
            continue
        units = sorted(_without_part(branch, reduction))
        units = units[1:] if len(units) == branch.units else units
        if not units:
            continue
        reduction.take(branch.last, 1, units)
        for weight in branch.first:
            rows = [row for unit in units for row in branch.rows(unit)]
            reduction.take(weight, 0, rows)
            if (bias := _bias(weight, tensors)) is not None:
                reduction.take(bias, 0, rows)
        reduction.structures.append(RemovedUnits(branch.module, tuple(units), branch.units))


def _without_part(branch: FeedForward, reduction: Reduction) -> set[int]:
    found = set(reduction.zeroed.inputs(branch.last))
    for weight in branch.first:
        rows = reduction.zeroed.outputs(weight, _bias(weight, reduction.tensors))
        found |= {row % branch.units for row in rows}
    return found


def _bias(weight: str, tensors: Mapping[str, TensorLike]) -> str | None:
    bias = f"{weight.removesuffix('weight')}bias"
    return bias if bias in tensors else None

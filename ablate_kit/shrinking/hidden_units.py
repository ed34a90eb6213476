"""Units between the two layers of a feed-forward branch, taken out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ablate_kit.ablations.attention import TensorLike
from ablate_kit.shrinking.reduction import Reduction
from ablate_kit.shrinking.structures import HiddenUnits
from ablate_kit.shrinking.zeroed import Zeroed

# What leads to the hidden units, and what leads on from them.
PAIRS = (
    (("fc1",), "fc2"),
    (("linear1",), "linear2"),
    (("intermediate.dense",), "output.dense"),
    (("layers.0",), "layers.1"),
    (("layers.0.0",), "layers.1"),  # MMDetection's FFN
    (("gate_proj", "up_proj"), "down_proj"),
    (("w12",), "w3"),  # DINOv2's gated branch
    (("weights_in",), "weights_out"),  # ... as transformers names it
)


@dataclass(frozen=True)
class FeedForward:
    """A branch of two layers: ``first`` are the weights that lead to the hidden units."""

    module: str
    first: tuple[str, ...]
    last: str
    units: int
    gated: bool  # the one first layer gives two numbers for each unit, of which one is a gate

    def rows(self, unit: int) -> tuple[int, ...]:
        return (unit, unit + self.units) if self.gated else (unit,)


def feed_forwards(tensors: Mapping[str, TensorLike]) -> Iterator[FeedForward]:
    """All branches among these tensors that are two layers with something elementwise between."""
    for name, tensor in tensors.items():
        for first, last in PAIRS:
            end = f"{last}.weight"
            if name != end and not name.endswith(f".{end}"):
                continue
            prefix = name.removesuffix(end)
            before = tuple(f"{prefix}{one}.weight" for one in first)
            if len(tensor.shape) < 2 or not all(one in tensors for one in before):
                continue
            shapes = {tuple(tensors[one].shape) for one in before}
            units, rows = tensor.shape[1], {shape[0] for shape in shapes}
            gated = rows == {2 * units} and len(before) == 1
            if rows == {units} or gated:
                yield FeedForward(prefix.removesuffix("."), before, name, units, gated)


def take_hidden_units(
    reduction: Reduction, zeroed: Zeroed, tensors: Mapping[str, TensorLike]
) -> None:
    """Takes out every unit whose output plays no part: what leads on from it is zero, or what
    leads to it is, and zero goes through the activation as zero.

    One unit stays of a branch that would have none, with its zeros.
    """
    for branch in feed_forwards(tensors):
        if branch.last in reduction.dropped:
            continue
        units = sorted(_without_part(branch, zeroed, tensors))
        units = units[1:] if len(units) == branch.units else units
        if not units:
            continue
        reduction.take(branch.last, 1, units)
        for weight in branch.first:
            rows = [row for unit in units for row in branch.rows(unit)]
            reduction.take(weight, 0, rows)
            if (bias := _bias(weight, tensors)) is not None:
                reduction.take(bias, 0, rows)
        reduction.structures.append(HiddenUnits(branch.module, tuple(units), branch.units))


def _without_part(
    branch: FeedForward, zeroed: Zeroed, tensors: Mapping[str, TensorLike]
) -> set[int]:
    found = set(zeroed.inputs(branch.last))
    for weight in branch.first:
        found |= {row % branch.units for row in zeroed.outputs(weight, _bias(weight, tensors))}
    return found


def _bias(weight: str, tensors: Mapping[str, TensorLike]) -> str | None:
    bias = f"{weight.removesuffix('weight')}bias"
    return bias if bias in tensors else None

"""Feed-forward branches: two layers with something elementwise between."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ablate_kit.anatomy.head_counts import Shaped

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


def feed_forwards(tensors: Mapping[str, Shaped]) -> Iterator[FeedForward]:
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

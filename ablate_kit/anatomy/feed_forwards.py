"""Feed-forward branches: two layers with something elementwise between."""

from collections import defaultdict
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
    (("w1", "w3"), "w2"),  # LLaMA
    (("w1",), "w2"),
    (("w_1",), "w_2"),
    (("c_fc",), "c_proj"),  # GPT, CLIP
    (("lin1",), "lin2"),
    (("net.0.proj",), "net.2"),  # diffusers
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
    named = list(_named(tensors))
    yield from named
    known = {one.last for one in named}
    yield from (one for one in _numbered(tensors) if one.last not in known)


def _named(tensors: Mapping[str, Shaped]) -> Iterator[FeedForward]:
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
                break


def _numbered(tensors: Mapping[str, Shaped]) -> Iterator[FeedForward]:
    """Two layers of an ``nn.Sequential`` of one's own, such as ``net.1`` and ``net.4``: to more
    units, and back as the last of all. Other layers of tensors may come before, such as a norm."""
    lists: dict[str, dict[int, str]] = defaultdict(dict)  # a tensor for each layer
    for name in tensors:
        module, _, own = name.rpartition(".")
        prefix, _, number = module.rpartition(".")
        if number.isdecimal() and (own == "weight" or int(number) not in lists[prefix]):
            lists[prefix][int(number)] = name if own == "weight" else ""
    for prefix, layers in lists.items():
        weights = [layers[number] for number in sorted(layers)]
        shapes = [tuple(tensors[name].shape) if name else () for name in weights]
        if len(shapes) < 2 or any(len(one) > 1 for one in shapes[:-2]):
            continue
        into, back = shapes[-2:]
        to_more = len(into) > 1 and into[0] > into[1] and {*into[2:], *back[2:]} <= {1}
        if to_more and back[:2] == into[1::-1]:
            yield FeedForward(prefix, (weights[-2],), weights[-1], back[1], gated=False)

"""Layers whose input is what it was are not run again, and the outputs stay the same bits."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.execution.identities import Identities
from ablate_kit.sweeps.execution.unchanged import UnchangedLayers, layers
from ablate_kit.sweeps.variants.variant import Variant

from .toy_adapter import Toy


class Copying(Toy):
    def decode(
        self, outputs: Any, origins: Sequence[Any], limit: int = 100
    ) -> list[ImageDetections]:
        return [outputs.clone() for _ in origins]


class Layer(nn.Module):
    """Of a decoder: attends to a memory that no layer changes."""

    def __init__(self, write: str) -> None:
        super().__init__()
        self.own, self.keys, self.values = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.write = write

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = torch.tanh(self.own(x))
        values = self.values(memory)
        if self.write == "output":
            values.clamp_(min=0.0)
        keys = self.keys(memory + 1.0)
        if self.write == "input":
            memory.mul_(0.9)
        return x + torch.softmax(x @ keys.T, dim=-1) @ values


class Decoder(nn.Module):
    def __init__(self, write: str = "", layer: Callable[[str], nn.Module] = Layer) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 6)
        self.layers = nn.ModuleList(layer(write) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        memory = torch.tanh(self.encoder(x))
        for layer in self.layers:
            x = layer(x, memory)
        return x


def decoder(write: str = "") -> Toy:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return Copying(Decoder(write))


def images(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(4, 6, generator=generator) for _ in range(count)]


def zero(*tensors: str) -> Variant:
    return Variant.of(Ablation("-".join(tensors), "test", tuple(Edit(one) for one in tensors)))


def swept(toy: Toy, variants: Sequence[Variant], **options: Any) -> list[Any]:
    """What each variant gives for each batch, with or without replay; nothing is noted."""
    found = []
    with VariantExecutor(toy, **options) as passes:
        for batch in images():
            found += [row[0] for row in passes.run([toy.prepare(batch)], variants)]
    assert passes.notes == []
    return found


EVERY = [
    zero("encoder.bias"),
    zero("layers.0.own.weight", "layers.1.keys.bias"),
    zero("layers.0.own.weight", "layers.2.values.weight"),
    *(zero(f"layers.{i}.{one}.weight") for i in range(3) for one in ("own", "keys", "values")),
]


@pytest.mark.parametrize("write", ["", "output", "input"])
def test_the_outputs_are_those_of_full_passes(write: str) -> None:
    toy = decoder(write)
    assert identical(swept(toy, EVERY, verify=False), swept(toy, EVERY, replay=False))


@pytest.mark.parametrize(
    ("write", "alone"), [("", 3), ("output", 3 + 3), ("input", 3 + 3)], ids=str
)
def test_keys_and_values_of_an_unchanged_memory_are_computed_once(
    write: str, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But where they are written into, or the memory is after they were computed.

    ``alone``: what the second and third variant run of nine linear layers, each.
    """
    toy, calls = decoder(write), []
    plain = functional.linear

    def counted(*args: Any) -> Tensor:
        calls.append(args)
        return plain(*args)

    monkeypatch.setattr(functional, "linear", counted)
    variants = [zero(*(f"layers.0.own.{x}" for x in one)) for one in (["weight"], ["bias"])]
    variants.append(zero("layers.0.own.weight", "layers.0.own.bias"))
    counts = []
    for some in (variants[:1], variants[:2], variants):
        with VariantExecutor(toy, verify=False) as passes:
            for batch in images(2):
                calls.clear()
                passes.run([toy.prepare(batch)], some)
        counts.append(len(calls))
    assert [b - a for a, b in pairwise(counts)] == [alone, alone]


def test_no_more_is_kept_than_there_is_memory_for() -> None:
    toy = decoder()
    found = []
    for memory in (200, 500, 1 << 20):
        with VariantExecutor(toy, memory=memory) as passes:
            made = passes.look([toy.prepare(images()[0])], [zero("layers.0.own.weight")])
        assert made
        assert all(part.nbytes <= memory for part in made.parts)
        found.append([sorted(part.unchanged) for part in made.parts])
    every = sorted(f"layers.{i}.{one}" for i in range(3) for one in ("keys", "values"))
    assert found == [[[]], [sorted(["layers.0.keys", "layers.0.values"])], [every]]


class Subclass(nn.Linear):
    """May do anything."""


def test_only_layers_that_are_functions_of_their_input_are_known() -> None:
    module = nn.Sequential(nn.Linear(2, 2), Subclass(2, 2), nn.Linear(2, 2), nn.ReLU())
    module[2].forward = lambda x: x + torch.rand(())
    assert layers({one: name for name, one in module.named_modules()}) == {"0"}


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (lambda x: x.clone(), True),
        (lambda x: x, True),
        (lambda x: x * -1.0, False),
        (lambda x: x.t().contiguous().t(), False),  # lies in memory otherwise
        (lambda x: x[:2], False),
        (lambda x: x.double(), False),
    ],
    ids=["copy", "itself", "sign of zero", "order in memory", "shape", "precision"],
)
def test_an_input_is_the_same_bit_for_bit(change: Callable[[Tensor], Tensor], known: bool) -> None:
    module = nn.Sequential(nn.Linear(3, 3))
    x = torch.zeros(4, 3)
    keeping = UnchangedLayers(["0"], Identities(module)).but(())
    keeping.note("0", (x,), {}, y := torch.ones(4, 3))
    assert (keeping.recall("0", (change(x),), {}) is y) == known


def test_a_layer_that_a_variant_changes_is_neither_recalled_nor_noted() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    kept = UnchangedLayers(["0", "1"], identities := Identities(module))
    changed = [identities.tensor("1.bias", module[1].bias)]
    assert kept.but(changed).names == {"0"}
    assert kept.but(()).names == {"0", "1"}


def test_an_input_that_was_written_into_since_is_another() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    kept = UnchangedLayers(["0", "1"], Identities(module))
    first, x = torch.ones(4, 3), torch.ones(4, 3)
    noted = kept.but(())
    for name in ("0", "1"):
        noted.note(name, (first,), {}, torch.full((4, 3), float(name)))
    passing = kept.but(())
    found = [passing.recall("0", (x,), {}), passing.recall("1", (x,), {})]
    assert [float(one[0, 0]) for one in found if one is not None] == [0.0, 1.0]
    assert passing.recall("1", (x.add_(1.0),), {}) is None
    found[0].add_(1.0)
    assert kept.but(()).recall("0", (first,), {}) is None  # what it gave was written into
    assert kept.but(()).recall("1", (first,), {}) is not None
    first.zero_()
    assert kept.but(()).recall("1", (first,), {}) is None

"""Variants that silence heads or channels share passes, and find what each finds alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.means import Channels
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.sweeps.execution.disagreement import disagreement
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run import sweep
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.shapes import Shapes
from tests.ablate_kit.small_sweeps import adapter_of

from .toy_adapter import Toy

RAN = (
    "variants that silence heads or channels of one place ran side by side: on their first batch "
    "within 0.0001 of their replay, not bit for bit"
)


def cuts_of(path: Path) -> list[Ablation]:
    """Heads of all decoder layers; channels of a feed-forward layer to zero, and to some value."""
    with open_checkpoint(path) as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
        own = [one for one in found if "decoder.layers" in one.prefix and "self_attn" in one.prefix]
        base = own[0].prefix.rpartition(".layers.")[0] + ".layers"
        weights = (n for n in checkpoint.tensors if n.startswith(f"{base}.1."))
        module = next(n for n in weights if n.endswith("fc1.weight")).removesuffix(".weight")
        kind = Channels(pattern=[module], channels=list(range(6)))
        cuts = kind.make(KindContext(checkpoint))
    for i in range(3, 6):
        weight, bias = cuts[i].edits
        cuts[i] = replace(cuts[i], edits=(weight, replace(bias, values=((i - 3) / 2 - 0.6,))))
    return [*heads_each(own), *cuts]


def swept(
    adapter: Adapter, variants: Sequence[Variant], **options: Any
) -> tuple[list[list[ImageDetections]], list[str], list[int]]:
    """Of three batches of two images: each variant's detections, the notes, and how many passes the
    model ran in each batch."""
    shapes = Shapes(6, seed=3, size=96)
    images = [adapter.prepare(shapes.image(i)) for i in range(6)]
    forward, count = adapter.forward, 0

    def counted(inputs: Mapping[str, Tensor]) -> Any:
        nonlocal count
        count += 1
        return forward(inputs)

    adapter.forward = counted
    try:
        with VariantExecutor(adapter, **options) as executor:
            rows, counts = [], []
            for start in (0, 2, 4):
                before = count
                rows.append(executor.run(images[start : start + 2], variants))
                counts.append(count - before)
    finally:
        adapter.forward = forward
    return (
        [[one for batch in rows for one in batch[i]] for i in range(len(variants) + 1)],
        (executor.notes),
        counts,
    )


@pytest.mark.parametrize("name", ["hybrid", "detr", "rt_detr_v2"])
def test_many_variants_take_a_pass_for_each_place(
    folders: Callable[[str], Path], hybrid: Path, name: str
) -> None:
    path = hybrid if name == "hybrid" else folders(name)
    adapter = adapter_of(path)
    variants = [Variant.of(one) for one in cuts_of(path)]
    fused, notes, counts = swept(adapter, variants, fuse=True)
    alone, _, one_by_one = swept(adapter, variants)
    assert notes == [RAN]
    for one, other in zip(fused, alone, strict=True):
        assert disagreement(one, other) < 1e-4
    first, *others = zip(fused[0], alone[0], strict=True)
    for one, other in (first, *others):
        assert np.array_equal(one.scores, other.scores)  # of the unmodified model: every bit
    assert one_by_one[1:] == [1 + len(variants)] * 2
    # The unmodified model, the heads of each layer, the channels.
    layers = len({one.factors["layer"] for one in variants if one.kind == "heads"})
    assert counts[1:] == [layers + 2] * 2


def test_the_numbers_of_a_data_set_are_the_same_to_four_decimals(repository: Path) -> None:
    path = repository / "detector/zoo/shapes_tiny/model.safetensors"
    adapter = adapter_of(path)
    variants = [Variant.of(one) for one in cuts_of(path)[:8]]
    rows = [
        sweep(
            adapter, Shapes(12, seed=5), variants, EvaluationSettings(batch_size=4, fuse=fuse)
        ).results
        for fuse in (True, False)
    ]
    for one, other in zip(*rows, strict=True):
        for key in ("AP", "AP50", "AP75"):
            fused, alone = (each.evaluation.overall[key] for each in (one, other))
            assert fused == pytest.approx(alone, abs=5e-5)
    assert rows[0][0].evaluation.overall["AP"] > 0.5


class Mixing(nn.Module):
    """Looks at all images of a pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.first(x))
        return x - x.mean(0, keepdim=True)


class ImagesLast(Mixing):
    """Has the images on another axis than the first."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).transpose(0, 1)).transpose(0, 1)


class Scoring(Toy):
    def decode(
        self, outputs: Any, origins: Sequence[Any], limit: int = 100
    ) -> list[ImageDetections]:
        found = outputs.double().numpy()
        assert len(found) == len(origins)
        return [
            ImageDetections(np.zeros((x.size, 4)), x.ravel(), np.zeros(x.size, np.int64))
            for x in found
        ]


def together_and_alone(
    kind: Callable[[], nn.Module], sizes: Sequence[int]
) -> tuple[list[list[str]], list[tuple[Any, Any]]]:
    """The notes of both ways, and each batch's results; of batches of so many images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        toy = Scoring(kind())
        batches = [[toy.prepare(torch.randn(1, 5, 6)) for _ in range(size)] for size in sizes]
    variants = [
        Variant.of(Ablation(f"c{i}", "x", (Edit("last.weight", Blocks(1, ((i, i + 1),))),)))
        for i in range(4)
    ]
    notes, rows = [], []
    for fuse in (True, False):
        with VariantExecutor(toy, fuse=fuse) as executor:
            rows.append([executor.run(batch, variants) for batch in batches])
            notes.append(executor.notes)
    pairs = [pair for batch in zip(*rows, strict=True) for pair in zip(*batch, strict=True)]
    return notes, pairs


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Mixing, "scores or boxes differ by"),
        (ImagesLast, "CannotRunTogetherError: cannot tell the images apart in a tensor of shape"),
    ],
)
def test_a_model_that_cannot_have_them_together_runs_them_one_by_one(
    kind: Callable[[], nn.Module], reason: str
) -> None:
    (notes, _), pairs = together_and_alone(kind, (2, 2))
    (note,) = notes
    assert note.startswith(f"c0 and 3 more are not run side by side: {reason}")
    for one, other in pairs:
        assert all(np.array_equal(x.scores, y.scores) for x, y in zip(one, other, strict=True))


def test_little_memory_parts_them(folders: Callable[[str], Path]) -> None:
    path = folders("detr")
    adapter = adapter_of(path)
    variants = [Variant.of(one) for one in cuts_of(path)[:4]]
    _, _, wide = swept(adapter, variants, fuse=True)
    _, notes, narrow = swept(adapter, variants, fuse=True, memory=1.5e6)
    assert wide[1:] == [2, 2]
    assert notes == [RAN]
    assert narrow[1:] == [3, 3]


class Asking(nn.Module):
    """Three queries, which a module gives without looking at an image."""

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Parameter(torch.randn(3, 6))

        def forward(self) -> Tensor:
            return self.rows.tanh()

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.last = self.Table(), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:  # (images, 5, 6) -> (images, 3, 3)
        queries = self.table()
        weights = (queries @ self.first(x).transpose(1, 2)).softmax(-1)
        return self.last(weights @ x)


@pytest.mark.parametrize("first", [5, 3])
def test_what_is_as_long_as_a_batch_is_not_taken_for_its_images(first: int) -> None:
    """Here the queries, in a batch of three."""
    notes, pairs = together_and_alone(Asking, (first, 8 - first))
    assert notes == [[RAN], []]
    assert all(disagreement(one, other) < 1e-5 for one, other in pairs)

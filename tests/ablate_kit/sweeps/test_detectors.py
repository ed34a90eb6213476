"""Replay of detectors whose shapes depend on what they see: many boxes, one, or none."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.models.adapter import Prepared
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.sweeps.execution.executor import VariantExecutor
from ablate_kit.sweeps.execution.identical import identical
from ablate_kit.sweeps.variants.variant import Variant

from .execution.toy_adapter import Toy


def nms(boxes: Tensor, scores: Tensor, threshold: float = 0.5) -> Tensor:
    """The boxes that remain, best first, as torchvision has it."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    near = (inner > threshold * (area[:, None] + area - inner)).tolist()
    kept: list[int] = []
    for one in scores.argsort(descending=True, stable=True).tolist():
        if not any(near[one][other] for other in kept):
            kept.append(one)
    return torch.tensor(kept, dtype=torch.int64)


def boxes_of(deltas: Tensor) -> Tensor:
    """Boxes (n, 4) xyxy of the cells of a map (4, h, w)."""
    _, h, w = deltas.shape
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    center = torch.stack((x, y), -1).reshape(-1, 2) + 0.5
    size = deltas.flatten(1).T.sigmoid() * 2
    return torch.cat((center - size[:, :2], center + size[:, 2:]), 1)


class OneStage(nn.Module):
    """A RetinaNet in small: every cell is an anchor, the score decides what goes on."""

    most = 20  # detections of an image

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.tower = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(inplace=True))
        self.classes, self.deltas = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> list[tuple[Tensor, ...]]:
        features = self.tower(self.backbone(images))
        results = []
        for scores, deltas in zip(self.classes(features), self.deltas(features), strict=True):
            best, labels = scores.sigmoid().flatten(1).max(0)
            good = best > self.threshold
            boxes, best, labels = boxes_of(deltas)[good], best[good], labels[good]
            # In one tensor, as MMDetection and Ultralytics do: columns of one row keep its stride.
            found = torch.cat((boxes, best[:, None]), 1)[nms(boxes, best)[: self.most]]
            results.append((found[:, :4], found[:, 4], labels[: len(found)]))
        return results


class TwoStage(nn.Module):
    """A Faster R-CNN in small: proposals, pooled features of each, a second head, NMS by class."""

    most = 20

    def __init__(self, threshold: float, proposals: int = 6) -> None:
        super().__init__()
        self.proposals = proposals
        self.first = OneStage(threshold)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.shared = nn.Sequential(nn.Linear(32, 16), nn.ReLU())
        self.classes, self.deltas = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, images: Tensor) -> list[tuple[Tensor, ...]]:
        features = self.first.tower(self.first.backbone(images))
        return [
            self.refined(one, proposals[: self.proposals])
            for one, (proposals, *_) in zip(features, self.first(images), strict=True)
        ]

    def refined(self, features: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        pooled = [self.pool(self.crop(features, box)).flatten() for box in boxes]
        x = self.shared(torch.stack(pooled) if pooled else features.new_zeros(0, 32))
        scores, labels = self.classes(x).softmax(-1)[:, :3].max(-1)
        boxes = boxes + self.deltas(x).tanh()
        kept = [
            of_class[nms(boxes[of_class], scores[of_class])]
            for of_class in (torch.nonzero((labels == c) & (scores > 0.2))[:, 0] for c in range(3))
        ]
        index = torch.cat(kept)[: self.most]
        return boxes[index], scores[index], labels[index]

    @staticmethod
    def crop(features: Tensor, box: Tensor) -> Tensor:
        x0, y0, x1, y1 = (int(value) for value in box.clamp(0, features.shape[-1] - 1))
        return features[:, y0 : y1 + 1, x0 : x1 + 1]


class Detector(Toy):
    """One of these modules as an adapter."""

    classes = ("a", "b", "c")

    def prepare(self, image: Tensor) -> Prepared:
        return super().prepare(image[None])

    def decode(
        self, outputs: Any, origins: Sequence[Any], limit: int = 100
    ) -> list[ImageDetections]:
        return [ImageDetections(*(column.numpy() for column in one)) for one in outputs]


def made(kind: type[nn.Module], threshold: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = kind(threshold).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.mul_(4.0 if "classes" in name else 1.0)
    return module


def batches() -> list[Tensor]:
    """Of two images, of one, and of one of nothing but zeros."""
    generator = torch.Generator().manual_seed(6)
    images = torch.randn(3, 3, 8, 8, generator=generator)
    return [images[:2], images[2:], torch.zeros(1, 3, 8, 8)]


def ablations(module: nn.Module) -> list[Ablation]:
    names = [name for name, _ in module.named_parameters() if name.endswith("weight")]
    scores = [name for name, _ in module.named_parameters() if "classes" in name]
    low = tuple(Edit(name, value=0.0 if "weight" in name else -50.0) for name in scores)
    return [
        *(Ablation(name, "test", (Edit(name),)) for name in names),
        Ablation("low", "test", low),
    ]


def run(
    module: nn.Module, cuts: Sequence[Ablation], images: Sequence[Tensor], *, replay: bool
) -> tuple[list[str], list[list[ImageDetections]]]:
    """The notes; then of the unmodified model and of each variant the detections of all images."""
    adapter = Detector(module)
    found: list[list[ImageDetections]] = [[] for _ in range(len(cuts) + 1)]
    variants = [Variant.of(one) for one in cuts]
    with VariantExecutor(adapter, replay=replay) as passes:
        for batch in images:
            rows = passes.run([adapter.prepare(image) for image in batch], variants)
            for all_of, part in zip(found, rows, strict=True):
                all_of.extend(part)
        assert passes.full is not replay
    return passes.notes, found


def columns(found: list[list[ImageDetections]]) -> list[bytes]:
    return [
        column.tobytes()
        for variant in found
        for one in variant
        for column in (one.boxes, one.scores, one.labels)
    ]


@pytest.mark.parametrize("kind", [OneStage, TwoStage])
@pytest.mark.parametrize("amount", ["many", "one", "none"])
def test_replay_of_detectors_is_the_full_pass(kind: type[nn.Module], amount: str) -> None:
    module = made(kind, {"many": 0.27, "one": 0.27, "none": 1.0}[amount])
    if amount == "one":
        module.most = 1
    cuts = ablations(module)
    notes, replayed = run(module, cuts, batches(), replay=True)
    _, full = run(module, cuts, batches(), replay=False)
    assert notes == []
    assert columns(replayed) == columns(full)
    counts = {len(one.scores) for variant in full for one in variant}
    if amount == "many":
        assert max(counts) > 3
        assert sum(len(one.scores) for one in full[0]) > 5
    else:
        assert max(counts) == (amount == "one")


def test_slices_of_one_element_are_compared_by_their_bytes() -> None:
    column = torch.arange(10.0).view(2, 5)[:1, 0]
    assert column.stride() == (5,)
    assert identical(column, torch.zeros(1))
    assert not identical(column, torch.ones(1))
    assert not identical([column], [column, column])


class Loose(OneStage):
    """Hands on what no one can compare."""

    def forward(self, images: Tensor) -> Any:
        return [Found(*one) for one in super().forward(images)]


class Found:
    def __init__(self, *columns: Tensor) -> None:
        self.columns = columns

    def __iter__(self) -> Any:
        return iter(self.columns)


class Shaken(OneStage):
    """Is another one each time, like sums on a GPU that add in no order."""

    count = 0

    def forward(self, images: Tensor) -> Any:
        type(self).count += 1
        return super().forward(images + 0.001 * (type(self).count % 7))


class Shy(OneStage):
    """Does not run where anything looks on."""

    def forward(self, images: Tensor) -> Any:
        if torch.overrides._is_torch_function_mode_enabled():
            raise ValueError("looked\nat")
        return super().forward(images)


class Tower(nn.Sequential):
    left: list[int]

    def forward(self, x: Tensor) -> Tensor:
        self.left.append(1)
        return super().forward(x)


class Forgetful(OneStage):
    """Needs what its own tower left behind, which a replayed tower does not leave."""

    def __init__(self, threshold: float) -> None:
        super().__init__(threshold)
        self.tower = Tower(*self.tower)
        self.tower.left = []

    def forward(self, images: Tensor) -> Any:
        found = super().forward(images)
        self.tower.left.pop()
        return found


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Loose, "TypeError: its outputs hold a Found, which cannot be compared"),
        (Shaken, "it computes something else every time it runs"),
        (Shy, "ValueError: looked at"),
    ],
)
def test_a_model_that_cannot_be_replayed_runs_in_full(kind: type[nn.Module], reason: str) -> None:
    module = made(kind, 0.27)
    cuts = ablations(module)
    adapter = Detector(module)
    variants = [Variant.of(one) for one in cuts]
    with VariantExecutor(adapter) as passes:
        for batch in batches():
            passes.run([adapter.prepare(image) for image in batch], variants)
        assert passes.full
    assert passes.notes == [f"every variant runs in full: the model cannot be replayed ({reason})"]


def test_a_variant_whose_replay_fails_runs_in_full() -> None:
    module = made(Forgetful, 0.27)
    cuts = ablations(module)
    notes, replayed = run(module, cuts, batches(), replay=True)
    _, full = run(module, cuts, batches(), replay=False)
    assert columns(replayed) == columns(full)
    late = [one.name for one in cuts if one.name == "low" or one.name.startswith(("cl", "del"))]
    assert sorted(notes) == sorted(
        f"{name} runs in full: it cannot be replayed (IndexError: pop from empty list)"
        for name in late
    )


def test_a_variant_that_does_not_run_is_told_as_it_is() -> None:
    class Picky(OneStage):
        def forward(self, images: Tensor) -> Any:
            if not self.classes.bias.any():
                raise ZeroDivisionError("no bias")
            return super().forward(images)

    module = made(Picky, 0.27)
    with pytest.raises(ZeroDivisionError, match="no bias"):
        run(module, [Ablation("x", "test", (Edit("classes.bias"),))], batches(), replay=True)


class Encoder(nn.Module):
    """With PyTorch's own transformer layers, which have a fast path of their own."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Any:
        x = self.head(self.encoder(images[:, 0]))
        return [(one[:, :4], one[:, 4], torch.zeros(len(one), dtype=torch.int64)) for one in x]


def test_transformer_layers_of_pytorch_are_replayed() -> None:
    module = made(Encoder, 0.0)
    cuts = [Ablation(name, "test", (Edit(name),)) for name, _ in module.named_parameters()][::5]
    notes, replayed = run(module, cuts, batches(), replay=True)
    _, full = run(module, cuts, batches(), replay=False)
    assert notes == []
    assert columns(replayed) == columns(full)
    assert torch.backends.mha.get_fastpath_enabled()  # as it was

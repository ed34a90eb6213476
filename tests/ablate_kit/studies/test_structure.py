"""What a detector is made of, found without a pattern, and how each part is best cut."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ablate_kit as ak
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.studies.budget_plan import outline
from ablate_kit.studies.cuts import Cut, Cutter, lines_of, made, zeroed
from ablate_kit.studies.probe import probe
from ablate_kit.studies.structure import Part, first_uses, structure, tell_of_uncounted, traced
from detector.data.shapes import Shapes

PVT = "model.backbone.conv_encoder.model.encoder"
IMAGE = Shapes(1, seed=1, size=96).image(0)


def looked_at(path: Path, adapter: Adapter | None = None) -> tuple[dict[str, Part], dict[str, str]]:
    """The parts of a checkpoint by name, and how each is cut."""
    with open_checkpoint(path) as checkpoint:
        adapter = adapter or open_adapter(checkpoint)
        source = KindContext(checkpoint, live=lambda: adapter)
        prepared = adapter.prepare(IMAGE)
        seen = traced(adapter, prepared)
        assert seen is not None
        root = structure(source, first_uses(adapter, *seen))
        cutter = Cutter(source, adapter, {}, 8)
        needed = {
            name
            for one in root.walk()
            if cutter.needs_probe(one)
            for name in cutter.live_modules(one)
        }
        before = {name: one.clone() for name, one in adapter.module.state_dict().items()}
        silenced = probe(adapter, prepared, seen[1], needed)
        for name, one in adapter.module.state_dict().items():
            assert torch.equal(one, before[name]), name  # a try leaves nothing behind
        cutter = Cutter(source, adapter, silenced, 8)
        parts = {one.name: one for one in root.walk() if one.kind != "model"}
        cuts = {name: cutter.cut(one) for name, one in parts.items()}
        chosen = [one for one in cuts.values() if one.how != "mean"]
        ablations = made(chosen, source)  # what is named is what is made
        assert set(ablations) == {one.variant for one in chosen}
        assert {one["kind"] for one in lines_of(chosen)} <= {
            "skip",
            "levels",
            "component",
            "modules",
        }
        return parts, {name: one.how for name, one in cuts.items()}


def test_the_hybrid_detector(hybrid: Path) -> None:
    parts, how = looked_at(hybrid)
    top = [name for name in parts if "." not in name]
    assert top == ["backbone", "neck", "level_embed", "encoder", "queries", "decoder", "heads"]
    layer = parts["decoder.layers.1"]
    assert layer.kind == "layer"
    assert [one.name.rpartition(".")[2] for one in layer.children][:3] == [
        "self_attn", "cross_attn", "ffn"
    ]  # fmt: skip
    assert parts["decoder.layers.1.cross_attn"].heads == 4
    assert parts["queries"].kind == "queries"
    assert parts["neck.inputs.2"].kind == "level"
    assert not any("dense_heads" in name for name in parts)  # which only training runs
    begins = [one.begins for one in parts["backbone"].children]
    assert begins == sorted(begins)
    assert how["decoder.layers.1"] == how["encoder"] == "removed"
    assert how["backbone.csi"] == "removed"  # found by trying: what goes in comes out
    assert how["backbone.stem"] == "mean"
    assert how["neck"] == "zero"


@pytest.mark.parametrize(
    ("family", "layer", "branches"),
    [
        ("detr", "model.decoder.layers.1", ["self_attn", "encoder_attn", "fc2"]),
        ("deformable_detr", "model.encoder.layers.0", ["self_attn", "fc2"]),
        ("rt_detr_v2", "model.decoder.layers.0", ["self_attn", "encoder_attn", "fc2"]),
    ],
)
def test_detection_transformers_with_convolutions(
    folders: Callable[[str], Path], family: str, layer: str, branches: list[str]
) -> None:
    parts, how = looked_at(folders(family))
    assert parts[layer].kind == "layer"
    assert [one.name.removeprefix(f"{layer}.") for one in parts[layer].children] == branches
    assert {one.heads for one in parts[layer].children if one.kind == "attention"} == {4}
    assert how[layer] == "removed"
    backbone = [one for one in parts.values() if one.kind == "block" and "stages" in one.name]
    assert backbone
    assert any(how[one.name] == "mean" for one in backbone)


class OwnAttention(nn.Module):
    """Under names that no library has."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 2
        self.norm = nn.LayerNorm(8)
        self.to_q, self.to_kv = nn.Linear(8, 8), nn.Linear(8, 16)
        self.to_out = nn.Sequential(nn.Linear(8, 8), nn.Dropout())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        query, key, value = torch.cat([self.to_q(x), self.to_kv(x)], -1).chunk(3, -1)
        query, key, value = (
            one.unflatten(-1, (2, 4)).transpose(1, 2) for one in (query, key, value)
        )
        heads = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        return self.to_out(heads.transpose(1, 2).flatten(2))


@dataclass
class Live:
    module: nn.Module

    def live_names(self) -> dict[str, tuple[str, ...]]:
        return {name: (name,) for name in self.module.state_dict()}


def prepare(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(image).permute(2, 0, 1) / 255


def decode(outputs: torch.Tensor, sizes: object) -> list[tuple[torch.Tensor, ...]]:
    return [(one[:, :4], one[:, 4], one[:, 4].long()) for one in outputs]


def branch() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))


class OwnTransformer(nn.Module):
    """Layers as lists of an attention and a feed-forward branch, each with its norm inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.layers = nn.ModuleList(nn.ModuleList([OwnAttention(), branch()]) for _ in range(2))
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images).flatten(2).transpose(1, 2)
        for attention, feed_forward in self.layers:
            x = x + attention(x)
            x = x + feed_forward(x)
        return self.head(x)


def test_heads_of_which_nothing_tells_the_number(tmp_path: Path, told: list[str]) -> None:
    network = OwnTransformer()
    torch.save(network.state_dict(), tmp_path / "own.pth")
    with open_checkpoint(tmp_path / "own.pth") as checkpoint:
        source = KindContext(checkpoint, live=lambda: Live(network))
        tell_of_uncounted(source)
        assert told == []
        del network.layers[1][0].heads
        tell_of_uncounted(source)
    (note,) = told
    assert note.startswith("heads of layers.1.0 are left out, as nothing tells their number: num_h")


def test_a_transformer_of_ones_own(tmp_path: Path) -> None:
    network = OwnTransformer()
    torch.save(network.state_dict(), tmp_path / "own.pth")
    adapter = ak.wrap(network, classes=["one"], prepare=prepare, decode=decode)
    parts, how = looked_at(tmp_path / "own.pth", adapter)
    assert {name: (one.kind, one.heads) for name, one in parts.items() if "layers.0" in name} == {
        "layers.0": ("layer", 0),
        "layers.0.0": ("attention", 2),
        "layers.0.1": ("feed-forward", 0),
    }
    assert {how[name] for name in parts if "layers" in name} == {"removed"}


class Refined(nn.Module):
    """Reads its places again and again, from zeros on, by one module, as DAB-DETR does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.again = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images).flatten(2).transpose(1, 2)
        places = torch.zeros_like(x)
        for _ in range(2):
            places = x + self.again(places)
        return self.head(places)


class Pooled(nn.Module):
    """Of a map of one place alone nothing tells what is the same everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.inner = nn.Sequential(nn.AdaptiveAvgPool2d(1), Shortcut())
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner(self.stem(images))).flatten(2).transpose(1, 2)


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.short, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.short(x) + self.last(x)


@pytest.mark.parametrize(
    ("network", "part", "cut"), [(Refined(), "again", "mean"), (Pooled(), "inner", "zero")]
)
def test_what_a_try_does_not_tell_is_not_said(
    network: nn.Module, part: str, cut: str, tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "own.pth")
    adapter = ak.wrap(network, classes=["one"], prepare=prepare, decode=decode)
    _, how = looked_at(tmp_path / "own.pth", adapter)
    assert how[part] == cut


def test_projections_beside_an_attention_are_its_own(folders: Callable[[str], Path]) -> None:
    layer = "model.decoder.layers.0"
    parts, how = looked_at(folders("conditional_detr"))
    children = parts[layer].children
    assert [one.name.removeprefix(f"{layer}.") for one in children] == [
        "self_attn", "encoder_attn", "fc2"
    ]  # fmt: skip
    itself, to_image, _ = children
    own = {name.removeprefix(f"{layer}.").partition("_")[0] for name in itself.tensors}
    assert own == {"self", "sa"}
    assert (len(itself.tensors), len(to_image.tensors)) == (12, 14)
    assert itself.heads == to_image.heads == 4
    assert {how[one.name] for one in (parts[layer], *children)} == {"removed"}


@pytest.mark.parametrize(
    ("family", "layer", "branches"),
    [
        ("yolos", "vit.encoder.layer.1", ["attention", "output"]),
        ("lw_detr", "model.backbone.backbone.encoder.layer.0", ["attention", "intermediate"]),
        ("lw_detr", "model.decoder.layers.1", ["self_attn", "cross_attn", "mlp"]),
        ("pvt_v2", f"{PVT}.layers.1.blocks", ["0.attention", "0.mlp"]),
        ("rf_detr", "backbone.0.encoder.encoder.encoder.layer.0", ["attention", "mlp"]),
    ],
)
def test_vision_transformers(
    folders: Callable[[str], Path], family: str, layer: str, branches: list[str]
) -> None:
    parts, how = looked_at(folders(family))
    children = parts[layer].children
    assert [one.name.removeprefix(f"{layer}.") for one in children] == branches
    assert [one.kind for one in children] == ["attention"] * (len(branches) - 1) + ["feed-forward"]
    # With the layer that leads to its units.
    layers = [name for name in children[-1].tensors if name.endswith("weight")]
    assert len([name for name in layers if "dwconv" not in name]) == 2
    assert {one.heads for one in children[:-1]} == {4}
    assert {how[one.name] for one in (parts[layer], *children)} == {"removed"}
    assert not any(".enc_output.1" in name for name in parts)  # of groups that only training runs


@pytest.mark.parametrize(
    ("family", "tables"),
    [
        ("deformable_detr", ["model.level_embed"]),
        (
            "yolos",
            [
                "vit.embeddings.detection_tokens",
                "vit.embeddings.position_embeddings",
                "vit.encoder.mid_position_embeddings",
            ],
        ),
        ("detr", []),  # whose tables are modules of their own
    ],
)
def test_tables_that_a_module_has_itself_are_parts(
    folders: Callable[[str], Path], family: str, tables: list[str]
) -> None:
    parts, how = looked_at(folders(family))
    found = [name for name, one in parts.items() if one.kind == "tensor"]
    assert sorted(found) == tables
    assert all(parts[name].tensors == (name,) for name in found)
    assert {how[name] for name in found} <= {"zero"}
    # A list of layers beside a table is no part beside its layers.
    assert "vit.encoder.layer" not in parts


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Inverted(nn.Module):
    """All that it holds lies in its branch, as in MobileNet's inverted residual."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(8, 7, 1)  # comes first in the file, last in the pass
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(Block(), Inverted())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x))).flatten(2)


def test_a_convolutional_network_of_one_s_own(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = Net().eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    adapter = ak.wrap(
        net, classes=["a"], prepare=lambda image: torch.tensor(image).permute(2, 0, 1) / 255.0,
        decode=lambda outputs, sizes: [],
    )  # fmt: skip
    parts, how = looked_at(tmp_path / "net.pth", adapter)
    removed = {"body": "removed", "body.0": "removed", "body.1": "removed"}
    inside = {"body.1.block.0": "mean", "body.1.block.2": "mean"}
    assert list(parts) == ["stem", *removed, *inside, "head"]
    assert how == {"stem": "mean", **removed, **inside, "head": "mean"}


def test_what_is_cut_alike_is_one_cut_under_the_outer_name(folders: Callable[[str], Path]) -> None:
    """All that the decoder's cut skips is in its list of layers: no cut of its own."""
    with open_checkpoint(folders("deformable_detr")) as checkpoint:
        adapter = open_adapter(checkpoint)
        source = KindContext(checkpoint, live=lambda: adapter)
        found = outline(source, adapter, Shapes(2, seed=1, size=96)).candidates
    names = [one.cut.part for one in found]
    assert "model.decoder" in names
    assert "model.decoder.layers" not in names
    decoder = found[names.index("model.decoder")]
    layers = [f"model.decoder.layers.{i}-skip" for i in range(2)]
    assert list(decoder.made_of) == layers
    inner = [one for one in found if one.parent == names.index("model.decoder")]
    assert set(layers) <= {one.cut.variant for one in inner}
    digests: dict[str, str] = {}
    alone = [one.cut for one in found if one.cut.how != "mean"]
    for name, one in made(alone, source).items():
        assert digests.setdefault(one.digest, name) == name


def test_a_head_at_zero_stands_beside_its_mean() -> None:
    line = {"kind": "heads-mean", "pattern": "a.attn", "images": 4}
    head = Cut("a.attn", "mean", "a.attn-head2-mean", line, 2)
    zero = zeroed(head)
    assert zero is not None
    assert (zero.how, zero.variant, zero.line["kind"]) == ("zero", "a.attn-head2", "heads")
    assert zeroed(zero) is None

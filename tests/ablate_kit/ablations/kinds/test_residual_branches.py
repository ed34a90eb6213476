"""Skipping a branch by weights is setting its output to zero."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.residual_branches import Skip, skips
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from detector.config import HybridConfig
from detector.network.decoder import DecoderLayer
from detector.network.encoder import EncoderLayer
from detector.network.neighborhood import AttentionLayer

CONFIG = HybridConfig()
C = CONFIG.d_model
SHAPES = [(6, 6), (3, 3), (2, 2), (1, 1)]
COUNT = sum(a * b for a, b in SHAPES)


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Plain(nn.Module):
    """Post-norm layer with torch's attention and an MLP, as in DETR."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(C, 4, batch_first=True)
        self.norm = nn.LayerNorm(C)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(C, 2 * C))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(2 * C, C))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x + self.self_attn(x, x, x, need_weights=False)[0])
        return x + self.mlp(x)


class OpenMMLab(nn.Module):
    """Branches that add their input themselves, under MMDetection's names."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.Module()
        self.self_attn.attn = nn.MultiheadAttention(C, 4, batch_first=True)
        inner = nn.Sequential(nn.Linear(C, C), nn.ReLU(), nn.Dropout())
        self.ffn = nn.Module()
        self.ffn.layers = nn.Sequential(inner, nn.Linear(C, C), nn.Dropout())  # as wide as narrow

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn.attn(x, x, x, need_weights=False)[0]
        return x + self.ffn.layers(x)


class Original(nn.Module):
    """A layer with the linear layers of its feed-forward branch beside its norms, as in DETR."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(C, 2 * C), nn.Linear(2 * C, C)
        self.norm = nn.LayerNorm(C)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(self.linear1(x).relu()))


class Gated(nn.Module):
    """DEIMv2's feed-forward branch under names that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Module()
        self.mlp.a, self.mlp.b, self.mlp.c = (
            nn.Linear(C, 2 * C), nn.Linear(2 * C, C), nn.Linear(C, 2 * C, bias=False),
        )  # fmt: skip
        self.mlp.forward = lambda x: self.mlp.b(self.mlp.a(x).sigmoid() * self.mlp.c(x))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x)


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor], list[str]]] = {
    "decoder": (
        lambda: DecoderLayer(CONFIG, 2, 0.3),
        lambda m: m(rand(1, 5, C), 0.1, rand(1, COUNT, C) + 1, SHAPES, rand(1, 5, 2))[0],
        ["self_attn", "cross_attn", "ffn"],
    ),
    "encoder": (
        lambda: EncoderLayer(CONFIG, 0.0),
        lambda m: m(rand(1, COUNT, C), 0.1, SHAPES, rand(1, COUNT, 2)),
        ["self_attn", "ffn"],
    ),
    "backbone": (
        lambda: AttentionLayer(C, 4, 0.0, CONFIG),
        lambda m: m(rand(1, 8, 9, C)),
        ["attn", "mlp"],
    ),
    "openmmlab": (OpenMMLab, lambda m: m(rand(2, 5, C)), ["self_attn.attn", "ffn.layers"]),
    "original": (Original, lambda m: m(rand(2, 5, C)), ["linear2"]),
    "gated": (Gated, lambda m: m(rand(2, 5, C)), ["mlp"]),
    "plain": (Plain, lambda m: m(rand(2, 5, C)), ["self_attn", "mlp"]),
}


@pytest.mark.parametrize(
    ("case", "part"), [(case, part) for case, (_, _, parts) in CASES.items() for part in parts]
)
def test_a_skipped_branch_adds_nothing(case: str, part: str) -> None:
    make, run, _ = CASES[case]
    model = nn.ModuleDict({"0": make()}).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(drawn * 0.3)
        full = run(model["0"])
        branch = model["0"].get_submodule(part)
        with branch.register_forward_hook(
            lambda _, __, out: (out[0] * 0, None) if isinstance(out, tuple) else out * 0
        ):
            expected = run(model["0"])
        (ablation,) = skips([f"0.{part}"], model.state_dict())
        with applied(model, ablation):
            assert (run(model["0"]) - expected).abs().max() < 1e-12
        assert (full - expected).abs().max() > 1e-3
        assert torch.equal(run(model["0"]), full)


DECODER = ["model.decoder.layers.*.self_attn", "model.decoder.layers.*.fc2"]
BRANCHES = {
    "detr": [*DECODER, "model.decoder.layers.*.encoder_attn", "model.encoder.layers.*.fc2"],
    "deformable_detr": [*DECODER, "model.decoder.layers.*.encoder_attn"],
    "rt_detr_v2": [*DECODER, "model.decoder.layers.*.encoder_attn"],
    "d_fine": DECODER,
    # The second of its layers is alone in a module.
    "yolos": ["vit.encoder.layer.*.attention", "vit.encoder.layer.*.output"],
    "lw_detr": [
        "model.backbone.backbone.encoder.layer.*.attention",
        "model.backbone.backbone.encoder.layer.*.intermediate",
        "model.decoder.layers.*.mlp",
    ],
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_branches_of_hugging_face_detectors(live: Callable[[str], Any], kind: str) -> None:
    one = live(kind)
    found = one.make(Skip(pattern=BRANCHES[kind]))
    assert len(found) == 2 * len(BRANCHES[kind])
    full = one.run()
    for ablation in found[::2]:
        (live_name,) = one.names[ablation.edits[0].tensor]
        last = one.module.get_submodule(live_name.rpartition(".")[0])
        with last.register_forward_hook(lambda _, __, out: out * 0):
            expected = one.run()
        assert one.difference(one.run(ablation), expected) < 1e-9
        assert one.difference(full, expected) > 1e-9
    assert one.difference(one.run(), full) == 0


def test_a_post_norm_layer_without_its_branches_hands_on_what_comes_in_normed_anew() -> None:
    layer = Plain().double().eval()
    with torch.no_grad():
        for one in layer.parameters():
            one.copy_(rand(*one.shape))
        state = {f"layer.{name}": one for name, one in layer.state_dict().items()}
        live = {name: (name.removeprefix("layer."),) for name in state}
        attention, feed_forward = skips(["layer.self_attn", "layer.mlp"], state)
        x = rand(1, 5, C)
        with applied(layer, attention, live), applied(layer, feed_forward, live):
            found = layer(x)
        assert torch.equal(found, layer.norm(x))
    assert not torch.allclose(found, x)


@pytest.mark.parametrize("output", ["output", "output.dense"])
def test_branches_that_end_in_a_norm(output: str) -> None:
    """Without its branches a layer of Swin V2 hands on what comes in."""
    swinv2 = pytest.importorskip("transformers.models.swinv2.modeling_swinv2")
    config = swinv2.Swinv2Config(image_size=32, embed_dim=8, depths=[1], num_heads=[2])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = swinv2.Swinv2Model(config, add_pooling_layer=False).eval()
        with torch.no_grad():
            for one in module.parameters():
                one.add_(torch.rand_like(one) + 0.1)
        images = torch.randn(1, 3, 32, 32)
    name, layer = next(
        (name, one) for name, one in module.named_modules() if name.endswith("blocks.0")
    )
    own = {f"layer.0.{key}": one for key, one in layer.state_dict().items()}
    live = {f"layer.0.{key}": (f"{name}.{key}",) for key in layer.state_dict()}
    passed: list[tuple[Tensor, Tensor]] = []

    def look(_: nn.Module, args: Any, output: Any) -> None:
        passed.append((args[0], output[0] if isinstance(output, tuple) else output))

    attention, feed_forward = skips(["layer.0.attention", f"layer.0.{output}"], own)
    with layer.register_forward_hook(look), torch.no_grad():
        with applied(module, attention, live):
            module(images)
            with applied(module, feed_forward, live):
                module(images)
        with applied(module, feed_forward, live):
            module(images)
    assert [torch.equal(*one) for one in passed] == [False, True, False]


def test_branches_of_a_real_deimv2(shared: Path) -> None:
    with open_checkpoint(shared / "models" / "deimv2_atto") as checkpoint:
        patterns = ["model.decoder.layers.*.mlp", "model.decoder.layers.*.encoder_attn"]
        found = Skip(pattern=patterns).make(KindContext(checkpoint))
    prefix = "model.decoder.layers.0"
    assert [edit.tensor for edit in found[0].edits] == [
        f"{prefix}.mlp.down_proj.weight", f"{prefix}.mlp.down_proj.bias",
    ]  # fmt: skip
    # Its deformable attention has no projections: what it samples is moved off the map.
    assert [(edit.tensor, edit.value) for edit in found[3].edits] == [
        (f"{prefix}.encoder_attn.sampling_offsets.weight", 0.0),
        (f"{prefix}.encoder_attn.sampling_offsets.bias", 1e8),
    ]


def test_what_is_no_branch_is_refused() -> None:
    tensors = nn.ModuleDict({"0": DecoderLayer(CONFIG, 2, 0.3), "1": Plain()}).state_dict()
    with pytest.raises(UserError, match=r"0\.refine1 is not a residual branch"):
        skips(["0.refine1"], tensors)
    with pytest.raises(UserError, match=r"1\.norm cannot be skipped: neither is it an attention"):
        skips(["1.norm"], tensors)
    gated = {"0.gateway.gate.weight": torch.ones(2), "0.encoder_attn.x.weight": torch.ones(2)}
    with pytest.raises(UserError, match="a gate joins its output"):
        skips(["0.encoder_attn"], gated)

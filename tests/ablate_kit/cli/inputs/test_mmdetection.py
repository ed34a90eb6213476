"""Files as MMDetection's runner saves them, and its attention modules under their names."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.ablations.apply_edits import applied
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.kinds.heads import heads_chosen
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.openmmlab import settings
from tests.ablate_kit.conftest import Run

C, H = 16, 4
CONFIG = """
custom = print('never run')
model = dict(
    type='DINO',
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=dict(embed_dims=16, num_levels=2))),
    decoder=dict(num_layers=2, layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=16, num_heads=4), cross_attn_cfg={'num_heads': 4})))
"""


class Conditional(nn.Module):
    """Conditional cross-attention: content and position side by side in each head."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("qcontent", "qpos", "kcontent", "kpos", "v", "qpos_sine", "out"):
            setattr(self, f"{name}_proj", nn.Linear(C, C))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        def split(name: str) -> Tensor:
            return getattr(self, name)(x).unflatten(-1, (H, -1)).transpose(1, 2)

        position = split("kpos_proj")
        query = torch.cat((split("qcontent_proj") + split("qpos_proj"), split("qpos_sine_proj")), 3)
        key = torch.cat((split("kcontent_proj") + position, position), 3)
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        heads = weights @ split("v_proj") * keep[:, None, None]
        return self.out_proj(heads.transpose(1, 2).flatten(2))


class Deformable(nn.Module):
    """Multi-scale deformable attention by loops, the nearest point in place of interpolation."""

    def __init__(self, levels: int = 2, points: int = 2) -> None:
        super().__init__()
        self.sizes = (levels, points)
        self.sampling_offsets = nn.Linear(C, H * levels * points * 2)
        self.attention_weights = nn.Linear(C, H * levels * points)
        self.value_proj, self.output_proj = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        offsets = self.sampling_offsets(x).unflatten(-1, (H, *self.sizes, 2)).tanh()
        weights = self.attention_weights(x).unflatten(-1, (H, -1)).softmax(-1)
        values = self.value_proj(x[:, :8]).unflatten(-1, (H, -1))  # two maps of 2x2
        out = torch.zeros(*x.shape[:2], H, C // H, dtype=x.dtype)
        for b, q, h in torch.cartesian_prod(*map(torch.arange, out.shape[:3])).tolist():
            for n, (level, point) in enumerate(
                torch.cartesian_prod(*map(torch.arange, self.sizes))
            ):
                column, row = (offsets[b, q, h, level, point] > 0).long()
                out[b, q, h] += weights[b, q, h, n] * values[b, level * 4 + row * 2 + column, h]
        return self.output_proj((out * keep[:, None]).flatten(2))


class Packed(nn.Module):
    """MultiheadAttention, in the wrapper that puts ``attn`` into the names."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(C, H, batch_first=True)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (H, -1)).transpose(1, 2)
            for part in (x @ self.attn.in_proj_weight.T + self.attn.in_proj_bias).chunk(3, -1)
        )
        weights = (query @ key.transpose(-1, -2) * (C // H) ** -0.5).softmax(-1)
        heads = weights @ value * keep[:, None, None]
        return self.attn.out_proj(heads.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("heads", [[0], [1, 3], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("make", [Packed, Conditional, Deformable])
def test_removed_heads_put_out_zero(make: type[nn.Module], heads: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    module = make().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    x = torch.randn(2, 9, C, generator=generator, dtype=torch.float64)
    keep = torch.ones(H, dtype=torch.float64)
    full = module(x, keep)
    if make is Packed:
        assert (module.attn(x, x, x)[0] - full).abs().max() < 1e-12
    (attention,) = attentions(module.state_dict(), heads=H)
    with applied(module, heads_chosen([attention], heads, "x")):
        removed = module(x, keep)
    keep[heads] = 0
    assert (removed - module(x, keep)).abs().max() < 1e-12
    assert (removed - full).abs().max() > 1e-3


@pytest.fixture
def saved(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    modules = nn.ModuleDict()
    generator = torch.Generator().manual_seed(2)
    for prefix, module in {
        "encoder.layers.0.self_attn": Deformable(),
        "decoder.layers.0.self_attn": Packed(),
        "decoder.layers.0.cross_attn": Conditional(),
    }.items():
        modules[prefix.replace(".", "/")] = module
    state = {
        name.replace("/", "."): torch.randn(value.shape, generator=generator)
        for name, value in modules.state_dict().items()
    }
    tied = torch.randn(5, C, generator=generator)
    state |= {f"bbox_head.cls_branches.{layer}.weight": tied for layer in range(3)}
    meta = {"cfg": CONFIG, "dataset_meta": {"classes": ("cat", "dog")}, "epoch": 1}
    path = tmp_path / "epoch_1.pth"
    content = {"meta": meta, "state_dict": state, "param_schedulers": [{"last_step": 3}]}
    torch.save(content, path, _use_new_zipfile_serialization=request.param)
    return path


both_formats = pytest.mark.parametrize("saved", [True, False], ids=["zip", "legacy"], indirect=True)


@both_formats
def test_config_tells_heads_and_classes(saved: Path) -> None:
    with open_checkpoint(saved) as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
        assert checkpoint.classes == ("cat", "dog")
    # The encoder's configuration names none: mmcv's default.
    assert {(one.prefix, one.layout.name): one.heads for one in found} == {
        ("encoder.layers.0.self_attn", "deformable"): 8,
        ("decoder.layers.0.self_attn.attn", "packed"): 4,
        ("decoder.layers.0.cross_attn", "conditional"): 4,
    }


@both_formats
def test_copy_differs_in_the_head_alone(run: Run, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("heads", saved, "decoder.layers.0.cross_attn", "--heads", "1", "-o", out)
    (copy,) = out.glob("*.pth")
    before, after = (torch.load(path, weights_only=True) for path in (saved, copy))
    changed = "decoder.layers.0.cross_attn.out_proj.weight"
    before["state_dict"][changed][:, 4:8] = 0
    assert after["meta"] == before["meta"]
    assert after["param_schedulers"] == before["param_schedulers"]
    assert after["state_dict"].keys() == before["state_dict"].keys()
    for name, value in before["state_dict"].items():
        assert torch.equal(after["state_dict"][name], value), name
    run("verify", copy)


@both_formats
def test_tied_branches_are_said(run: Run, saved: Path, tmp_path: Path) -> None:
    whole = run("component", saved, "bbox_head.cls_branches", "-o", tmp_path / "a.pth")
    assert "cls_branches.1.weight is the same tensor" in whole
    assert "80 elements of 1 tensor set" in whole
    arguments = ("--base", "bbox_head.cls_branches", "--part", "weight", "--mode", "each")
    each = run("layers", saved, *arguments, "-o", tmp_path / "each")
    assert each.count("shares its bytes with") == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = dict(offset=-0.5, size=(1, -2))", {"a": {"offset": -0.5, "size": [1, -2]}}),
        ("a = [dict(type='Resize')]\nb = 'x'", {"a": [{"type": "Resize"}], "b": "x"}),
        ("a = open('/etc/passwd')\nb = 2 ** 9 ** 9", {"a": None, "b": None}),
        ("a = -'x'", {"a": None}),
        ("import os\nos.remove('x')", {}),
        ("a = (", {}),
        ("a = 1\x00", {}),
    ],
)  # fmt: skip
def test_settings_are_literals(text: str, expected: dict[str, object]) -> None:
    assert settings({"meta": {"cfg": text}}) == expected


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ({"self_attn_cfg": {"num_heads": 2}}, 2),
        ({"self_attn_cfg": {"embed_dims": 16}}, None),  # torch's attention has no default
        ({}, 8),  # DetrTransformerDecoderLayer's
        ({"self_attn_cfg": {"num_heads": "2"}}, None),
        ({"self_attn_cfg": None}, None),
    ],
)  # fmt: skip
def test_heads_of_a_layer(layer: dict[str, object], expected: int | None) -> None:
    state = {f"decoder.layers.0.self_attn.{name}": t for name, t in Packed().state_dict().items()}
    (found,) = attentions(state, {"decoder": {"layer_cfg": layer}})
    assert found.heads == expected


@pytest.mark.parametrize(
    ("attentions_of_layer", "expected"),
    [
        ({"num_heads": 2}, [2, 2]),  # said once for all
        ([{"num_heads": 2}, {"num_heads": 4}], [2, 4]),
        ([{"num_heads": 2}, {}], [2, 8]),  # MultiScaleDeformableAttention's
        ([{}, {"num_heads": 4}], [None, 4]),
        ([{"num_heads": 2}], [2, None]),
        (None, [None, None]),
    ],
)
def test_heads_as_version_2_says_them(
    attentions_of_layer: object, expected: list[int | None]
) -> None:
    """And Co-DETR in version 3: in order, below the head that the transformer is in."""
    layer = "query_head.transformer.decoder.layers.0.attentions"
    names = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    state = {f"{layer}.0.attn.{name}": one for name, one in Packed().attn.state_dict().items()}
    state |= {f"{layer}.1.{name}.weight": torch.ones(16, 16) for name in names}
    decoder = {"transformerlayers": {"attn_cfgs": attentions_of_layer}}
    config = {"query_head": {"transformer": {"decoder": decoder}}}
    assert [one.heads for one in attentions(state, config)] == expected


CUTS = {
    "units": ("query_embedding.weight", "--percent", "10"),
    "heads": ("decoder.layers.*.self_attn", "--heads", "1", "--num-heads", "4"),
    "component": ("bbox_head.cls_branches",),
    "layers": ("--base", "encoder.layers", "--part", "self_attn"),
}


def contents(path: Path) -> tuple[dict[str, Tensor], str]:
    """All tensors, the optimizer's too, and how all else is read."""
    with open_checkpoint(path) as opened:
        rest = {key: value for key, value in opened.archive.metadata.items() if key != "state_dict"}
        archive = opened.archive
        return {name: archive.read(name) for name in archive.tensors}, repr(rest)


@pytest.mark.parametrize("name", ["mmengine_runner_toy.pth", "mmengine_runner_toy_legacy.pth"])
@pytest.mark.parametrize("command", CUTS)
def test_a_runners_file_keeps_all_else(
    run: Run, shared: Path, tmp_path: Path, name: str, command: str
) -> None:
    """Of a real run: message hub with its buffers, optimizer, schedulers, tied heads."""
    path, out = shared / "models" / name, tmp_path / "out"
    target = out / "cut.pth" if command == "component" else out
    run(command, path, *CUTS[command], "-o", target)
    copies = sorted(out.glob("*.pth"))
    assert len(copies) == (3 if command == "layers" else 1)
    before, others = contents(path)
    assert "HistoryBuffer" in others
    for copy in copies:
        run("verify", copy)
        after, its_others = contents(copy)
        assert its_others.replace(str(copy), str(path)) == others
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        told = run("diff", path, copy, "--by", "values", code=1)
        assert f"of other values: {len(changed)}" in told
        part = {"component": "cls_branches", "units": "query_embedding"}.get(command, "self_attn")
        assert changed
        assert all(part in key for key in changed)

"""A head folded to its mean by weights is that head's output set to its mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import applied, check_fits
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.ablations.hooks import hook_projection_input
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.means import Channels, HeadsMean
from ablate_kit.ablations.kinds.resample import HeadsResampled
from ablate_kit.ablations.receipt import receipt_of
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.ablations.verify_receipt import verify
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError

Open = Callable[[str], Any]  # see conftest.Live


@dataclass(frozen=True)
class Once:
    """Reference images: those that ``live.run`` shows."""

    live: Any

    @property
    def module(self) -> nn.Module:
        return self.live.module

    def names_of(self, tensor: str) -> Sequence[str]:
        return self.live.names[tensor]

    def run(self, images: int | None) -> None:
        assert images is None
        self.live.run()


@dataclass(frozen=True)
class Shown:
    """A model whose tensors are called as in its file, and what shows it its images."""

    module: nn.Module
    show: Callable[[], object]
    images: int | None = None  # that are asked for

    def names_of(self, tensor: str) -> Sequence[str]:
        return [tensor]

    def run(self, images: int | None) -> None:
        assert images == self.images
        self.show()


def mean_and_resampled(
    module: nn.Module, show: Callable[[], object], path: Path
) -> tuple[Ablation, Ablation]:
    """The second head of ``attn`` as its mean, and as that of another image."""
    torch.save(module.state_dict(), path)
    with torch.no_grad(), open_checkpoint(path) as checkpoint:
        source = KindContext(checkpoint, lambda: Shown(module, show))
        mean = HeadsMean(pattern="attn", num_heads=2, heads=[1]).make(source)
        return mean[0], HeadsResampled(pattern="attn", num_heads=2, heads=[1]).make(source)[0]


def make(live: Any, rule: Any) -> list[Ablation]:
    with open_checkpoint(live.path) as checkpoint:
        return rule.make(KindContext(checkpoint, lambda: Once(live)))


def averaged(module: nn.Module, place: str, columns: slice) -> RemovableHandle:
    """The reference: what enters a projection on these columns is its own mean everywhere."""

    def mean(_: object, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = args[0].clone()
        x[..., columns] = x[..., columns].reshape(-1, x[..., columns].shape[-1]).mean(0)
        return (x, *args[1:])

    return module.get_submodule(place).register_forward_pre_hook(mean)


HEADS = {
    "hybrid": [
        "decoder.layers.0.self_attn.out_proj",  # packed
        "decoder.layers.1.cross_attn.output_proj",  # deformable
        "encoder.layers.0.self_attn.output_proj",
        "backbone.stage3.0.attention1.layers.0.attn.proj",  # fused, neighborhood
    ],
    "detr": [
        "model.decoder.layers.0.encoder_attn.out_proj",
        "model.encoder.layers.1.self_attn.out_proj",
    ],
    "deformable_detr": ["model.decoder.layers.1.encoder_attn.output_proj"],
    "rt_detr_v2": ["model.decoder.layers.1.encoder_attn.output_proj"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "place"), [(kind, place) for kind, places in HEADS.items() for place in places]
)
def test_a_head_folded_to_its_mean(live: Open, kind: str, place: str) -> None:
    one = live(kind)
    full = one.run()
    prefix = place.rpartition(".")[0]
    (ablation,) = make(one, HeadsMean(pattern=prefix, heads=[1]))
    (live_name,) = one.names[f"{place}.weight"]
    projection = one.module.get_submodule(live_name.removesuffix(".weight"))
    with open_checkpoint(one.path) as checkpoint:
        tensors = checkpoint.tensors
        (attention,) = [
            each
            for each in attentions(tensors, checkpoint.config)
            if each.prefix == prefix
        ]  # fmt: skip
    width = projection.in_features // attention.head_count()
    with averaged(one.module, live_name.removesuffix(".weight"), slice(width, 2 * width)):
        expected = one.run()
    effect = one.difference(full, expected)
    assert effect > 1e-9
    assert one.difference(one.run(ablation), expected) < min(1e-6, effect / 1000)
    assert one.difference(one.run(), full) == 0


def test_heads_of_one_module_joined_are_all_of_them_at_their_means(live: Open) -> None:
    one = live("hybrid")
    place = "decoder.layers.0.self_attn"
    first, second = make(one, HeadsMean(pattern=place, heads=[0, 1]))
    (live_name,) = one.names[f"{place}.out_proj.weight"]
    projection = one.module.get_submodule(live_name.removesuffix(".weight"))
    width = projection.in_features // 4
    with averaged(one.module, live_name.removesuffix(".weight"), slice(0, 2 * width)):
        expected = one.run()
    with averaged(one.module, live_name.removesuffix(".weight"), slice(0, width)):
        assert one.difference(one.run(first), one.run()) < 1e-6
        assert one.difference(one.run(), expected) > 1e-6
    assert one.difference(one.run(first | second), expected) < 1e-6
    assert (first | second).digest == (second | first).digest == (second | first | second).digest


class Torch(nn.Module):
    """PyTorch's own attention, which never calls its output projection."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(x, x, x)[0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_torch_multi_head_attention_too(tmp_path: Path, batch_first: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    module = Torch(batch_first).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.rand(3, 5, 8, generator=generator).double()
    seen: list[Tensor] = []
    with hook_projection_input(module, "attn.out_proj.weight", seen.append), torch.no_grad():
        before = module(x)
    with torch.no_grad():
        # What was seen is what the projection gets: (B, N, C), of which all goes through it.
        assert seen[0].shape == ((3, 5, 8) if batch_first else (5, 3, 8))
        heads = seen[0] if batch_first else seen[0].transpose(0, 1)
        assert (before - x - module.attn.out_proj(heads)).abs().max() < 1e-12
        assert torch.equal(module(x), before)
        mean = heads.reshape(-1, 8).mean(0)
        expected = heads.clone()
        expected[..., 4:] = mean[4:]

    torch.save(module.state_dict(), tmp_path / "model.pth")
    with open_checkpoint(tmp_path / "model.pth") as checkpoint:
        kind = HeadsMean(pattern="attn", num_heads=2, images=3)
        found = kind.make(KindContext(checkpoint, lambda: Shown(module, lambda: module(x), 3)))
    assert [one.name for one in found] == ["attn-head0-mean", "attn-head1-mean"]
    with torch.no_grad():
        wanted = x + module.attn.out_proj(expected)
        with applied(module, found[1]):
            assert (module(x) - wanted).abs().max() < 1e-12


class Copied(nn.Module):
    """Attention as code of one's own copies it from PyTorch: a function gets all weights."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.rand(24, 8) - 0.5)
        self.in_proj_bias = nn.Parameter(torch.rand(24) - 0.5)
        self.out_proj = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:  # (N, B, C)
        return functional.multi_head_attention_forward(
            x, x, x, 8, 2, self.in_proj_weight, self.in_proj_bias, None, None, False, 0.0,
            self.out_proj.weight, self.out_proj.bias, training=False,
        )  # fmt: skip


def test_a_function_that_is_given_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.ModuleDict({"attn": Copied()}).double().eval()
    module.forward = lambda x: module["attn"](x)[0]
    x = torch.rand(5, 3, 8).double()
    mean, resampled = mean_and_resampled(module, lambda: module(x), tmp_path / "model.pth")
    with torch.no_grad():
        out = module["attn"].out_proj
        heads = (module(x) - out.bias) @ out.weight.inverse().T
        heads[..., 4:] = heads[..., 4:].mean((0, 1))
        with applied(module, mean):
            assert (module(x) - out(heads)).abs().max() < 1e-9
        with (
            applied(module, resampled),
            pytest.raises(UserError, match=r"never calls attn\.out_proj"),
        ):
            module(x)
        assert (module(x) - out(heads)).abs().max() > 1e-4


class OfMaps(nn.Module):
    """Attention whose projections are convolutions of 1 x 1."""

    def __init__(self) -> None:
        super().__init__()
        self.to_qkv, self.to_out = nn.Conv2d(8, 24, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.to_qkv(x).flatten(2).unflatten(1, (3, 2, 4)).unbind(1)
        heads = value @ (query.transpose(-1, -2) @ key).softmax(-1).transpose(-1, -2)
        return self.to_out(heads.reshape(x.shape))


def test_heads_of_maps_are_their_mean_and_that_of_another_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.ModuleDict({"attn": OfMaps()}).double().eval()
    module.forward = module["attn"].forward
    x = torch.rand(2, 8, 3, 4).double()
    given: list[Tensor] = []
    with module["attn"].to_out.register_forward_pre_hook(lambda _, a: given.append(a[0])):
        mean, resampled = mean_and_resampled(module, lambda: module(x), tmp_path / "model.pth")
    with torch.no_grad():
        of_mean, of_other = given[0].clone(), given[0].clone()
        of_mean[:, 4:] = given[0][:, 4:].mean((0, 2, 3), keepdim=True)
        of_other[:, 4:] = given[0].flip(0)[:, 4:]
        for ablation, heads in ((mean, of_mean), (resampled, of_other)):
            wanted = module["attn"].to_out(heads)
            with applied(module, ablation):
                assert (module(x) - wanted).abs().max() < 1e-12
            assert (module(x) - wanted).abs().max() > 1e-4


CHANNELS = {
    "hybrid": ["decoder.layers.0.ffn.fc1", "neck.inputs.1.norm", "backbone.stage0.0.conv"],
    "detr": ["model.encoder.layers.0.fc1", "model.decoder.layers.0.final_layer_norm"],
    "rt_detr_v2": ["model.decoder_input_proj.1.1"],
    # A transposed convolution: its output channels are its weight's columns.
    "lw_detr": ["model.backbone.projector.scale_layers.0.sampling_layers.1.layers.0"],
}


@pytest.mark.parametrize(
    ("kind", "module"), [(kind, module) for kind, names in CHANNELS.items() for module in names]
)
def test_channels_are_their_mean(live: Open, kind: str, module: str) -> None:
    one = live(kind)
    full = one.run()
    with open_checkpoint(one.path) as checkpoint:
        if f"{module}.bias" not in checkpoint.tensors:
            with pytest.raises(UserError, match="has no bias that could hold a mean"):
                make(one, Channels(pattern=[module], to="mean"))
            return
    (ablation,) = make(one, Channels(pattern=[module], channels=[2, 5], together=True, to="mean"))
    (live_name,) = one.names[f"{module}.weight"]

    def mean(owner: nn.Module, _: object, out: Tensor) -> Tensor:
        axis = 1 if out.dim() == 4 and out.shape[1] == len(owner.bias) else -1
        moved = out.clone().movedim(axis, -1)
        for channel in (2, 5):
            moved[..., channel] = moved[..., channel].mean()
        return moved.movedim(-1, axis)

    with one.module.get_submodule(live_name.removesuffix(".weight")).register_forward_hook(mean):
        expected = one.run()
    effect = one.difference(full, expected)
    assert effect > 1e-9
    assert one.difference(one.run(ablation), expected) < min(1e-6, effect / 1000)


def test_a_mean_is_a_checkpoint_with_a_receipt(live: Open, tmp_path: Path) -> None:
    one = live("hybrid")
    (ablation,) = make(one, HeadsMean(pattern="decoder.layers.0.self_attn", heads=[2]))
    assert Ablation.from_dict(ablation.to_dict()) == ablation
    with open_checkpoint(one.path) as checkpoint:
        write_variants(checkpoint, {tmp_path / "mean.safetensors": ablation})
    with open_checkpoint(tmp_path / "mean.safetensors") as written:
        receipt = receipt_of(written)
        assert receipt
        assert all(check.passed for check in verify(written, receipt))
        held = written.read("decoder.layers.0.self_attn.out_proj.bias")
    assert torch.equal(held, torch.tensor(ablation.edits[-1].values, dtype=torch.float32))
    with applied(one.module, ablation, one.names):
        now = one.module.state_dict()["decoder.layers.0.self_attn.out_proj.bias"]
        assert torch.equal(now, torch.tensor(ablation.edits[-1].values, dtype=torch.float64))


def test_values_that_do_not_fit_are_refused(live: Open) -> None:
    one = live("hybrid")
    name = "decoder.layers.0.self_attn.out_proj.weight"
    with open_checkpoint(one.path) as checkpoint:
        for edit, expected in (
            (
                Edit(name, Blocks(0, ((0, 1), (3, 4))), values=(1.0,) * 5),
                "5 values for 64 elements",
            ),
            (Edit(name, values=(1.0,) * 1024, factor=2.0), "not drawn or scaled"),
        ):
            with pytest.raises(UserError, match=expected):
                check_fits(checkpoint, Ablation("x", "x", (edit,)))
        values = tuple(float(i) for i in range(64))
        edit = Edit(name, Blocks(1, ((0, 1), (3, 4))), values=values)
        check_fits(checkpoint, Ablation("x", "x", (edit,)))
    with applied(one.module, Ablation("x", "x", (edit,)), one.names):
        weight = one.module.state_dict()[name]
        assert weight[:, 0].tolist() == list(values[:32])
        assert weight[:, 3].tolist() == list(values[32:])


def test_what_cannot_hold_a_mean_is_refused(live: Open) -> None:
    with pytest.raises(UserError, match=r"has no output projection .* whose bias could hold"):
        make(live("d_fine"), HeadsMean(pattern="model.decoder.layers.0.encoder_attn"))
    hybrid = live("hybrid")
    with pytest.raises(UserError, match="means are taken over images, and none are given"):
        hybrid.make(HeadsMean(pattern="decoder.layers.0.self_attn"))
    with pytest.raises(UserError, match="has no channel 400; it has 32"):
        make(hybrid, Channels(pattern=["decoder.layers.0.self_attn.out_proj"], channels=[400]))
    with pytest.raises(UserError, match="has no head 9"):
        make(hybrid, HeadsMean(pattern="decoder.layers.0.self_attn", heads=[9]))

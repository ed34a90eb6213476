"""Channels that are zeroed and channels that are gone are the same, whatever is coupled to them."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.shrinking.smaller_checkpoint import Shrunk, shrink

from .conftest import cut

pytest.importorskip("transformers")
Smaller = Callable[..., tuple[Path, Shrunk]]
Folders = Callable[[str], Path]

RESNET = "model.backbone.conv_encoder.model.encoder.stages.1.layers.0"
HGNET = "model.backbone.model.encoder.stages"


@pytest.fixture
def lively(folders: Folders, tmp_path: Path) -> Folders:
    """A model whose frozen norms are no longer 1 and 0, so that what is zero is so for a reason,
    and what the backbone sees matters."""

    def make(name: str) -> Path:
        folder = tmp_path / "lively"
        shutil.copytree(folders(name), folder)
        tensors = load_file(folder / "model.safetensors")
        generator = torch.Generator().manual_seed(1)
        for name, tensor in tensors.items():
            drawn = torch.rand(tensor.shape, generator=generator)
            if name.endswith("normalization.weight"):
                tensors[name] = 2 + 4 * drawn
            elif name.endswith("normalization.bias"):
                tensors[name] = drawn
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder

    return make


def silenced(channels: Iterable[int], *modules: str) -> list[Edit]:
    """Weight and bias of norms, or of layers, are zero there."""
    ranges = tuple((channel, channel + 1) for channel in channels)
    return [
        Edit(f"{one}.{end}", Blocks(0, ranges)) for one in modules for end in ("weight", "bias")
    ]


def shapes(path: Path, start: str) -> dict[str, tuple[int, ...]]:
    with open_checkpoint(path) as opened:
        return {
            name.removeprefix(start): info.shape
            for name, info in opened.tensors.items()
            if name.startswith(start)
        }


def test_inside_of_a_block(lively: Folders, smaller: Smaller) -> None:
    edits = silenced([1, 30], f"{RESNET}.layer.0.normalization")
    written, done = smaller(lively("detr"), cut(edits), with_code=True)
    (one,) = done.structures
    assert str(one) == f"2 channels of {RESNET}.layer.0.convolution (of 32)"
    found = shapes(written, f"{RESNET}.layer.")
    assert found["0.convolution.weight"] == (30, 16, 3, 3)
    assert found["0.normalization.running_var"] == (30,)
    assert found["1.convolution.weight"] == (32, 30, 3, 3)


def test_of_a_residual_sum(lively: Folders, smaller: Smaller, tmp_path: Path) -> None:
    """They are gone from both addends, and from all that the sum goes to."""
    branch, shortcut = f"{RESNET}.layer.1.normalization", f"{RESNET}.shortcut.normalization"
    folder = lively("detr")
    one = cut(silenced([3], branch))
    with open_checkpoint(folder) as opened, pytest.raises(UserError, match="another addend"):
        shrink(opened, one, tmp_path / "x", with_code=True)
    written, _ = smaller(folder, cut(silenced([3], branch, shortcut)), with_code=True)
    after = RESNET.replace("stages.1", "stages.2")
    found = shapes(written, "")
    assert found[f"{RESNET}.layer.1.convolution.weight"][:2] == (31, 32)
    assert found[f"{RESNET}.shortcut.convolution.weight"][:2] == (31, 16)
    assert found[f"{after}.layer.0.convolution.weight"][:2] == (64, 31)
    assert found[f"{after}.shortcut.convolution.weight"][:2] == (64, 31)


def test_of_a_concatenation_by_a_setting(lively: Folders, smaller: Smaller) -> None:
    block = f"{HGNET}.1.blocks.0"
    folder = lively("d_fine")
    written, done = smaller(folder, cut(silenced([0, 5, 7], f"{block}.layers.0.normalization")))
    assert done.settings == {"backbone_config.stage_mid_channels.1": 5}
    config = json.loads((written / "config.json").read_text())
    assert config["backbone_config"]["stage_mid_channels"] == [8, 5, 16, 16]
    found = shapes(written, f"{block}.")
    assert found["layers.0.convolution.weight"] == (5, 16, 3, 3)
    assert found["aggregation.0.convolution.weight"] == (16, 21, 1, 1)  # 16 that pass, and 5


def test_past_a_depthwise_convolution(lively: Folders, smaller: Smaller, tmp_path: Path) -> None:
    block = f"{HGNET}.2.blocks.0.layers.0"
    pointwise, depthwise = (f"{block}.conv{i}.normalization" for i in (1, 2))
    folder = lively("d_fine")
    with open_checkpoint(folder) as opened:
        adapter = open_adapter(opened)
        for norm, message in ((pointwise, "or a norm after it"), (depthwise, "before it treats")):
            one = cut(silenced([2], norm))
            with pytest.raises(UserError, match=message):
                shrink(opened, one, tmp_path / "x", adapter=adapter)
    written, done = smaller(folder, cut(silenced([2, 9], pointwise, depthwise)))
    assert done.settings == {"backbone_config.stage_mid_channels.2": 14}
    found = shapes(written, f"{block}.")
    assert found["conv1.convolution.weight"] == (14, 32, 1, 1)
    assert found["conv2.convolution.weight"] == (14, 1, 5, 5)


def test_what_is_mixed_by_a_norm_is_refused(hybrid: Path, folders: Folders, tmp_path: Path) -> None:
    conv = "backbone.stage0.0.conv.weight"
    with open_checkpoint(hybrid) as opened, pytest.raises(UserError, match="over all channels"):
        shrink(opened, cut([Edit(conv, Blocks(0, ((2, 3),)))]), tmp_path / "x.safetensors")
    one = cut(silenced([2], "model.input_projection"))
    with open_checkpoint(folders("detr")) as opened, pytest.raises(UserError, match="cannot be"):
        shrink(opened, one, tmp_path / "x", with_code=True)
    assert not list(tmp_path.iterdir())


def test_a_convolution_that_is_zeroed_before_a_norm_with_a_bias_is_refused(
    folders: Folders, tmp_path: Path
) -> None:
    one = cut([Edit("model.encoder.fpn_blocks.0.conv1.conv.weight", Blocks(0, ((2, 3),)))])
    with (
        open_checkpoint(folders("rt_detr_v2")) as opened,
        pytest.raises(UserError, match="not zero"),
    ):
        shrink(opened, one, tmp_path / "x", with_code=True)


def test_all_channels_of_a_layer_are_refused(folders: Folders, tmp_path: Path) -> None:
    one = cut(silenced(range(32), f"{RESNET}.layer.0.normalization"))
    with open_checkpoint(folders("detr")) as opened, pytest.raises(UserError, match="no channel"):
        shrink(opened, one, tmp_path / "x", with_code=True)

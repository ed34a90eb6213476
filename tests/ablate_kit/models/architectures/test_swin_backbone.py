"""This project's Swin Transformer, held against transformers' own."""

import importlib
import re
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.mmdetection.mmdet_settings import Settings

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
swin_backbone = importlib.import_module("ablate_kit.models.architectures.swin_backbone")

# The library's names, of any of its versions, and those of the original repository.
NAMES = (
    (r"^(swin\.)?embeddings\.patch_embeddings\.projection", "patch_embed.proj"),
    (r"^(swin\.)?embeddings\.norm", "patch_embed.norm"),
    (r"^(swin\.)?encoder\.", ""),
    (r"attention\.(self\.)?(relative_position_bias\.)?(?=relative_position)", "attn."),
    (r"attention\.(self\.)?(query|key|value)", lambda found: f"attn.{found[2][0]}_proj"),
    (r"attention\.output\.dense|attention\.o_proj", "attn.proj"),
    (r"attention\.([qkv]_proj)", r"attn.\1"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"(?<!attn\.)output\.dense", "mlp.fc2"),
    (r"^hidden_states_norms\.stage(\d)", lambda found: f"norm{int(found[1]) - 1}"),
)
UNUSED = re.compile(r"(swin\.)?layernorm\.|.*relative_position_index")


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if UNUSED.match(name):
            continue
        for pattern, new in NAMES:
            name = re.sub(pattern, new, name)
        found[name] = tensor
    for name in [name for name in found if ".q_proj." in name]:
        parts = [found.pop(name.replace(".q_proj.", f".{one}_proj.")) for one in "qkv"]
        found[name.replace(".q_proj.", ".qkv.")] = torch.cat(parts)
    return found


def config(window: int) -> object:
    return transformers.SwinConfig(
        embed_dim=12,
        depths=[2, 1, 3, 2],
        num_heads=[1, 2, 3, 4],
        window_size=window,
        mlp_ratio=3.0,
        out_features=["stage1", "stage3", "stage4"],
    )


@pytest.mark.parametrize("window", [4, 5])
@pytest.mark.parametrize("size", [(160, 160), (75, 110), (20, 36)])
def test_maps_are_those_of_transformers(window: int, size: tuple[int, int]) -> None:
    """Windows that fill the map, that are padded, and that are larger than it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = transformers.AutoBackbone.from_config(config(window)).eval().double()
        for name, tensor in theirs.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape) / 3
                tensor.copy_(drawn + ("norm" in name and name.endswith("weight")))
        images = torch.randn(2, 3, *size, dtype=torch.float64)
    ours = swin_backbone.SwinBackbone(config(window)).eval().double()
    ours.load_state_dict(renamed(theirs.state_dict()))
    with torch.no_grad():
        expected, found = theirs(images).feature_maps, ours(images).feature_maps
    assert [one.shape[1] for one in found] == ours.channels == [12, 48, 96]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_patches_are_merged_by_channel_as_mmdetection_unfolds_them() -> None:
    config = SimpleNamespace(merge_by_channel=True, layer_norm_eps=1e-5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        merging = swin_backbone.PatchMerging(config, 3)
        x = torch.randn(2, 5, 6, 3)
        torch.nn.init.normal_(merging.norm.weight)
    padded = F.pad(x.permute(0, 3, 1, 2), (0, 0, 0, 1))
    patches = F.unfold(padded, 2, stride=2).transpose(1, 2)
    expected = merging.reduction(merging.norm(patches)).unflatten(1, (3, 3))
    assert torch.allclose(merging(x), expected, atol=1e-6)


def test_a_whole_ratio_may_have_a_point() -> None:
    assert Settings({"mlp_ratio": 4.0}, "backbone").count("mlp_ratio") == 4
    for wrong in (2.5, float("nan"), float("inf"), 0.0, True, "4"):
        with pytest.raises(UserError, match=r"backbone\.mlp_ratio is .*positive whole number"):
            Settings({"mlp_ratio": wrong}, "backbone").count("mlp_ratio")

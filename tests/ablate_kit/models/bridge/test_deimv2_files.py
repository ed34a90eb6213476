"""Files of DEIMv2's repository become folders that compute what its code computes, which here is
transformers' model with the parts put in that differ."""

import importlib
import itertools
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.errors import UserError
from ablate_kit.models.architectures import bundled
from ablate_kit.models.architectures.bundled import BUNDLED
from tests.ablate_kit.small_sweeps import adapter_of

from .official_files import (
    Change,
    Renaming,
    anchors_of,
    bridged,
    computes_the_same,
    official,
    opened_by_transformers,
    put,
    random_model,
    refused,
    renamed,
    twice_named_numbers,
    with_silu,
    without,
)
from .test_official_hybrid import DECODER_NAMES, DFINE_NAMES, HGNETV2

HEADS, QUERIES, SIDE = 4, 16, 128
COMMON = {
    "model_type": "deimv2", "encoder_hidden_dim": 16, "encoder_ffn_dim": 20,
    "encoder_attention_heads": HEADS, "d_model": 16, "decoder_ffn_dim": 28,
    "decoder_attention_heads": HEADS, "decoder_layers": 3, "decoder_activation_function": "silu",
    "num_labels": 5, "num_queries": QUERIES, "max_num_bins": 8, "hidden_expansion": 0.5,
    "depth_mult": 0.67, "freeze_backbone_batch_norms": False,
}  # fmt: skip
TWO_LEVELS = {
    "feat_strides": [16, 32],
    "decoder_in_channels": [16, 16],
    "num_feature_levels": 2,
    "decoder_n_points": [2, 4],
}
THREE_LEVELS = {
    "decoder_in_channels": [16, 16, 16],
    "decoder_n_points": [3, 4, 3],
    "encoder_has_trailing_conv": False,
}
VIT = {
    "model_type": "dinov3_vit", "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 12,
    "num_attention_heads": 2,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "lite": TWO_LEVELS
    | {
        "backbone_config": HGNETV2 | {"out_features": ["stage4"]},
        "encoder_type": "lite",
        "encoder_in_channels": [20],
        "use_gateway": False,
        "share_bbox_head": True,
        "feat_strides": [32, 64],
    },
    # The first of the maps that the encoder takes has as many channels as the encoder.
    "hgnetv2": TWO_LEVELS
    | {"backbone_config": HGNETV2, "encoder_in_channels": [16, 20], "encode_proj_layers": [1]},
    "wide encoder": TWO_LEVELS
    | {
        "backbone_config": HGNETV2, "encoder_hidden_dim": 24, "encoder_in_channels": [16, 20],
        "encode_proj_layers": [1], "decoder_in_channels": [24, 24],
    },
    "distilled": THREE_LEVELS
    | {
        "encoder_in_channels": [16, 16, 16],
        "backbone_config": VIT
        | {
            "key_bias": True,
            "apply_layernorm": False,
            "layer_norm_eps": 1e-6,
            "out_features": ["stage4", "stage8", "stage12"],
        },
    },
    "dinov3": THREE_LEVELS
    | {
        "encoder_in_channels": [16, 16, 16],
        "backbone_config": VIT
        | {"num_register_tokens": 4, "out_features": ["stage6", "stage9", "stage12"]},
    },
}  # fmt: skip
MODELS["gated dinov3"] = MODELS["dinov3"] | {
    "backbone_config": MODELS["dinov3"]["backbone_config"]
    | {"use_gated_mlp": True, "hidden_act": "silu"}
}
VITS = ("distilled", "dinov3", "gated dinov3")

FUSION = r"(encoder\.(?:fpn|pan)_blocks?(?:\.\d)?)"
NAMES: list[Renaming] = [
    *((pattern.replace("backbone", "conv_encoder"), new) for pattern, new in DFINE_NAMES[:2]),
    *DFINE_NAMES[2:4],
    (r"^model\.conv_encoder\.encoder_input_proj", "encoder.input_proj"),
    (rf"{FUSION}\.csp_rep1\.conv2", r"\1.cv2.1"),
    (rf"{FUSION}\.csp_rep2\.conv2", r"\1.cv3.1"),
    (rf"{FUSION}\.csp_rep1", r"\1.cv2.0"),
    (rf"{FUSION}\.csp_rep2", r"\1.cv3.0"),
    (rf"{FUSION}\.conv1\.(conv|norm)", r"\1.cv1.\2"),
    (rf"{FUSION}\.conv2\.(conv|norm)", r"\1.cv4.\2"),
    (r"(downsample_convs\.\d)\.conv", r"\1.0.cv"),
    (r"encoder\.down_conv(\d)\.conv", r"encoder.down_sample\1.1"),
    (r"encoder\.down_conv(\d)\.norm", r"encoder.down_sample\1.2"),
    (r"encoder\.bi_fusion_conv", "encoder.bi_fusion.cv"),
    (r"^model\.decoder_input_proj", "decoder.input_proj"),
    # Before those that take away the beginning.
    (r"^model\.encoder\.aifi\.(\d\.layers\.\d)\.self_attn_layer_norm", r"encoder.encoder.\1.norm1"),
    (r"^model\.encoder\.aifi\.(\d\.layers\.\d)\.final_layer_norm", r"encoder.encoder.\1.norm2"),
    (r"^model\.encoder\.aifi\.(\d\.layers\.\d)\.mlp\.layers\.0", r"encoder.encoder.\1.linear1"),
    (r"^model\.encoder\.aifi\.(\d\.layers\.\d)\.mlp\.layers\.1", r"encoder.encoder.\1.linear2"),
    (r"^model\.encoder\.aifi", "encoder.encoder"),
    (r"^model\.encoder\.", "encoder."),
    *DECODER_NAMES,
    (r"decoder\.self_attn_layer_norm", "decoder.norm1"),
    (r"(decoder\.layers\.\d)\.self_attn_layer_norm", r"\1.norm1"),
    (r"(decoder\.decoder\.layers.*norm\d?)\.weight", r"\1.scale"),
    (r"mlp\.down_proj", "swish_ffn.w3"),
    (r"mlp\.gate_up", "swish_ffn.w12"),
    (r"o_proj", "out_proj"),
    (r"^model\.decoder\.(up|reg_scale)", r"decoder.\1"),
    (r"^model\.decoder\.lqe_layers", "decoder.decoder.lqe_layers"),
    (r"cross_attn\.n_points_scale", "cross_attn.num_points_scale"),
]
PYRAMID: list[Renaming] = [
    (r"^model\.conv_encoder\.spatial_tuning_adapter\.stem_conv\.conv", "backbone.sta.stem.0"),
    (r"^model\.conv_encoder\.spatial_tuning_adapter\.stem_conv\.norm", "backbone.sta.stem.1"),
    (r"^model\.conv_encoder\.spatial_tuning_adapter\.conv2\.conv", "backbone.sta.conv2.0"),
    (r"^model\.conv_encoder\.spatial_tuning_adapter\.conv2\.norm", "backbone.sta.conv2.1"),
    (r"^model\.conv_encoder\.spatial_tuning_adapter\.(conv\d)\.conv", r"backbone.sta.\1.1"),
    (r"^model\.conv_encoder\.spatial_tuning_adapter\.(conv\d)\.norm", r"backbone.sta.\1.2"),
    (r"^model\.conv_encoder\.fusion_proj\.(\d)\.conv", r"backbone.convs.\1"),
    (r"^model\.conv_encoder\.fusion_proj\.(\d)\.norm", r"backbone.norms.\1"),
]
VIT_NAMES: list[Renaming] = [
    (r"^embeddings\.register_tokens", "storage_tokens"),
    (r"^embeddings\.patch_embeddings", "patch_embed.proj"),
    (r"^embeddings\.", ""),
    (r"^model\.layer\.", "blocks."),
    (r"attention\.o_proj", "attn.proj"),
    (r"layer_scale(\d)\.lambda1", r"ls\1.gamma"),
]
PLAIN_MLP: list[Renaming] = [(r"mlp\.up_proj", "mlp.fc1"), (r"mlp\.down_proj", "mlp.fc2")]
GATED_MLP: list[Renaming] = [
    (r"mlp\.gate_proj", "mlp.w1"),
    (r"mlp\.up_proj", "mlp.w2"),
    (r"mlp\.down_proj", "mlp.w3"),
]


def once_a_pass(head: Any, layers: int) -> None:
    """The first of so many calls computes, and the others return the same."""
    compute, calls, kept = head.forward, itertools.count(), []

    def forward(boxes: Tensor) -> Tensor:
        if next(calls) % layers == 0:
            kept[:] = [compute(boxes)]
        return kept[0]

    head.forward = forward


@cache
def model_of(variant: str) -> Any:
    """transformers' model, as the original code would compute."""
    made = random_model(COMMON | MODELS[variant], 1 / 4)
    decoder = made.model.decoder
    made.model.enc_output = nn.Identity()
    heads = [made.model.enc_bbox_head, decoder.pre_bbox_head, *decoder.bbox_embed]
    for head in (*heads, *(one.reg_conf for one in decoder.lqe_layers)):
        with_silu(head)
    once_a_pass(decoder.query_pos_head, len(decoder.layers))
    maps = made.model.conv_encoder
    if variant == "hgnetv2":
        maps.encoder_input_proj[0] = nn.Identity()
    elif variant in VITS:
        rope = maps.backbone.rope_embeddings
        # As the published ones are: rounded.
        periods = (1 / rope.inv_freq).bfloat16().float()
        rope.inv_freq = 1 / periods
        if variant == "distilled":
            maps.backbone.norm = nn.Identity()
            for layer in maps.backbone.model.layer:
                layer.layer_scale1 = layer.layer_scale2 = nn.Identity()
    return made


def tensors_of(variant: str) -> dict[str, Tensor]:
    """The tensors of a model as the official repository has them."""
    model = model_of(variant)
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(("class_", "bbox_"))
    }
    vit = {
        name.removeprefix("model.conv_encoder.backbone."): state.pop(name)
        for name in list(state)
        if name.startswith("model.conv_encoder.backbone.")
    }
    for name in [name for name in state if ".mlp.gate_proj." in name]:
        both = state.pop(name), state.pop(name.replace("gate_proj", "up_proj"))
        state[name.replace("gate_proj", "gate_up")] = torch.cat(both)
    found = official(state, [*PYRAMID, *NAMES])
    if vit:
        found |= vit_tensors(vit, model.model.conv_encoder.backbone, variant)
    return twice_named_numbers(found) | anchors_of(model, SIDE, SIDE)


def vit_tensors(state: dict[str, Tensor], backbone: Any, variant: str) -> dict[str, Tensor]:
    width = backbone.config.hidden_size
    for name in [name for name in state if name.endswith("q_proj.weight")]:
        layer = name.removesuffix("attention.q_proj.weight")
        attention = f"{layer}attention."
        state[f"{layer}attn.qkv.weight"] = torch.cat(
            [state.pop(f"{attention}{one}_proj.weight") for one in "qkv"]
        )
        masked = torch.full((width,), 3.0)  # a value that may not count
        state[f"{layer}attn.qkv.bias"] = torch.cat(
            [state.pop(f"{attention}{one}_proj.bias", masked) for one in "qkv"]
        )
        if variant != "distilled":
            mask = torch.ones(3 * width)
            mask[width : 2 * width] = 0
            state[f"{layer}attn.qkv.bias_mask"] = mask
    mask_token = state.pop("embeddings.mask_token")
    if variant == "distilled":
        del state["embeddings.register_tokens"]
        place = "backbone.dinov3._model."
    else:
        state["mask_token"] = mask_token[0]
        place = "backbone.dinov3."
    state["rope_embed.periods"] = 1 / backbone.rope_embeddings.inv_freq
    mlp = GATED_MLP if variant.startswith("gated") else PLAIN_MLP
    return {f"{place}{name}": one for name, one in official(state, [*VIT_NAMES, *mlp]).items()}


def write(path: Path, variant: str, change: Change | None = None) -> Any:
    content = {"model": tensors_of(variant), "optimizer": {"state": {}, "param_groups": []}}
    if change:
        change(content)
    torch.save(content, path)
    return model_of(variant)


TOLD = {"heads": HEADS, "arguments": {"num_queries": str(QUERIES)}}


@pytest.mark.parametrize("variant", MODELS)
def test_the_folder_computes_the_same(tmp_path: Path, variant: str) -> None:
    model = write(tmp_path / "official.pth", variant)
    told = TOLD | {"heads": None} if variant == "lite" else TOLD
    assumed = bridged(tmp_path / "official.pth", tmp_path / "hf", **told)
    computes_the_same(tmp_path / "hf", model, 2, 3, SIDE, SIDE)
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": SIDE, "width": SIDE}
    assert processor["do_normalize"] == (variant in VITS)
    assert any("features of blocks" in words for words in assumed) == (variant in VITS)


def of_size(variant: str, height: int, width: int) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["model"] |= anchors_of(model_of(variant), height, width)

    return change


@pytest.mark.parametrize("size", [(SIDE, 2 * SIDE), (2 * SIDE, SIDE)])
def test_images_that_are_no_squares(tmp_path: Path, size: tuple[int, int]) -> None:
    """The small models have no position encodings, of which transformers has others there."""
    model = write(tmp_path / "official.pth", "lite", of_size("lite", *size))
    bridged(tmp_path / "official.pth", tmp_path / "hf", arguments=TOLD["arguments"])
    computes_the_same(tmp_path / "hf", model, 2, 3, *size)
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": size[0], "width": size[1]}
    write(tmp_path / "official.pth", "hgnetv2", of_size("hgnetv2", *size))
    message = rf"images of {size[1]}x{size[0]} .*are no squares"
    refused(tmp_path / "official.pth", message, **TOLD)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_file_of_half_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    """Its anchors, which tell the size of images, are rounded as all its numbers are."""

    def halved(content: dict[str, Any]) -> None:
        for name, one in content["model"].items():
            content["model"][name] = one.to(dtype) if one.is_floating_point() else one

    write(tmp_path / "official.pth", "hgnetv2", halved)
    bridged(tmp_path / "official.pth", tmp_path / "hf", **TOLD)
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    assert processor["size"] == {"height": SIDE, "width": SIDE}


def test_the_library_s_own_model_computes_something_else(tmp_path: Path) -> None:
    write(tmp_path / "official.pth", "hgnetv2")
    bridged(tmp_path / "official.pth", tmp_path / "hf", **TOLD)
    theirs = random_model(COMMON | MODELS["hgnetv2"], 1 / 4)
    with pytest.raises(AssertionError):
        computes_the_same(tmp_path / "hf", theirs, 2, 3, SIDE, SIDE)


@pytest.mark.parametrize("variant", ["lite", "distilled"])
def test_the_folder_opens_without_this_project(tmp_path: Path, variant: str) -> None:
    write(tmp_path / "official.pth", variant)
    bridged(tmp_path / "official.pth", tmp_path / "hf", **TOLD)
    theirs = opened_by_transformers(tmp_path / "hf")
    computes_the_same(tmp_path / "hf", theirs, 2, 3, SIDE, SIDE)


def test_it_trains(tmp_path: Path) -> None:
    """With denoising, and a gradient for each parameter that may learn."""
    write(tmp_path / "official.pth", "distilled")
    bridged(tmp_path / "official.pth", tmp_path / "hf", **TOLD)
    module = adapter_of(tmp_path / "hf").module.train()
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.3, 0.4]])}]
    images = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module(pixel_values=images, labels=labels).loss.backward()
    still = {
        name for name, one in module.named_parameters() if one.requires_grad and one.grad is None
    }
    assert still == set()


NO_HEAD = torch.ones(1, 16)
REFUSED = [
    ("dinov3", without(r"backbone\.sta\."),
     r"no convolutions beside its DINOv3 \(use_sta: False\)"),
    ("dinov3", without(r"blocks\.11\."), "has 11 blocks in the backbone; expected 12"),
    ("dinov3", without(r"blocks\.3\.attn\.qkv\.bias_mask"), "does not mask the biases of the keys"),
    ("dinov3", put("backbone.dinov3.blocks.0.attn.qkv.bias_mask", torch.ones(96)),
     "does not mask the biases of the keys"),
    ("dinov3", put("backbone.dinov3.rope_embed.periods", torch.ones(3)), "heads of 12 channels"),
    ("hgnetv2", renamed("backbone.stem", "backbone.conv"), "another backbone than HGNetV2"),
    ("hgnetv2", without(r"encoder\.input_proj\.1\.conv"), r"takes maps of \[16, 16\] channels"),
    ("hgnetv2", put("decoder.enc_score_head.weight", NO_HEAD), "a score without class"),
    ("hgnetv2", put("encoder.fpn_blocks.0.cv1.conv.weight", torch.ones(32, 32, 1, 1)),
     "fuse_op: cat"),
    ("wide encoder", without(r"decoder\.input_proj"), "decoder has 16 channels and the encoder 24"),
    ("hgnetv2", put("decoder.decoder.layers.1.swish_ffn.w12.weight", torch.ones(56, 32)),
     "decoder layers of other widths"),
]  # fmt: skip


@pytest.mark.parametrize(("variant", "change", "message"), REFUSED)
def test_what_has_no_counterpart_is_refused(
    tmp_path: Path, variant: str, change: Change, message: str
) -> None:
    write(tmp_path / "official.pth", variant, change)
    refused(tmp_path / "official.pth", message, **TOLD)


def test_an_older_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers has had the classes that ours are made of since 5.7."""
    one = BUNDLED["original_deimv2"]
    monkeypatch.delitem(sys.modules, f"{bundled.__package__}.{one.name}", raising=False)
    monkeypatch.setitem(sys.modules, "transformers.models.deimv2.modeling_deimv2", None)
    with pytest.raises(UserError, match=r"Deimv2ForObjectDetection needs a newer transformers"):
        one.classes()


def test_a_package_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers tells of a torchvision that was made for another torch."""
    one = BUNDLED["original_deimv2"]

    def load(_: str) -> None:
        cause = RuntimeError("operator torchvision::nms does not exist")
        raise ModuleNotFoundError("Could not import module 'Deimv2ForObjectDetection'") from cause

    monkeypatch.setattr(importlib, "import_module", load)
    told = (
        r"what Original\w+ needs \(RuntimeError: operator torchvision::nms does not exist\); mend"
    )
    with pytest.raises(UserError, match=told):
        one.classes()


def test_real_weights_detect_what_their_own_code_detects(tmp_path: Path, shared: Path) -> None:
    """Against the folder of the same weights, whose code is others'."""
    models = shared / "models"
    bridged(models / "deimv2_atto_upstream.pth", tmp_path / "hf")
    theirs = adapter_of(models / "deimv2_atto", trust_remote_code=True).module
    computes_the_same(tmp_path / "hf", theirs, 2, 3, 320, 320)

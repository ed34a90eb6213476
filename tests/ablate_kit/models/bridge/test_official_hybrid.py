"""Files of RT-DETR's and D-FINE's repositories become folders that compute the same."""

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.rewriting.conversions import write_bridge
from tests.ablate_kit.small_sweeps import adapter_of

from .official_files import (
    Change,
    Renaming,
    anchors_of,
    bridged,
    computes_the_same,
    in_file,
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

HEADS = 4
BASIC = {
    "model_type": "rt_detr_resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 2, 1, 1], "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip
BOTTLENECK = BASIC | {"hidden_sizes": [16, 24, 32, 40], "layer_type": "bottleneck"}
COMMON = {
    "encoder_hidden_dim": 24, "encoder_ffn_dim": 20, "encoder_attention_heads": HEADS,
    "d_model": 16, "decoder_in_channels": [24, 24, 24], "decoder_ffn_dim": 28,
    "decoder_attention_heads": HEADS, "decoder_layers": 2, "num_labels": 5,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "v1": {
        "model_type": "rt_detr", "backbone_config": BASIC, "encoder_in_channels": [16, 24, 32],
        "hidden_expansion": 0.5, "freeze_backbone_batch_norms": False,
    },
    "v2": {
        "model_type": "rt_detr_v2",
        "backbone_config": BOTTLENECK,
        "encoder_in_channels": [24, 32, 40],
        "decoder_n_points": 3,
    },
}  # fmt: skip
MODELS["m"] = MODELS["v2"] | {"hidden_expansion": 0.5}
HGNETV2 = {
    "model_type": "hgnet_v2", "embedding_size": 8, "stem_channels": [3, 6, 8],
    "hidden_sizes": [10, 12, 16, 20], "depths": [1, 2, 1, 1], "stage_in_channels": [8, 10, 12, 16],
    "stage_mid_channels": [4, 5, 6, 7], "stage_out_channels": [10, 12, 16, 20],
    "stage_num_blocks": [1, 2, 1, 1], "stage_numb_of_layers": [2, 2, 3, 2],
    "use_learnable_affine_block": True, "out_features": ["stage3", "stage4"],
}  # fmt: skip
DFINE = {
    "model_type": "d_fine", "backbone_config": HGNETV2, "freeze_backbone_batch_norms": False,
    "encoder_in_channels": [16, 20], "feat_strides": [16, 32], "encode_proj_layers": [1],
    "hidden_expansion": 0.4, "depth_mult": 0.67, "decoder_in_channels": [24, 24],
    "num_feature_levels": 2, "decoder_n_points": [2, 4], "max_num_bins": 8, "reg_scale": 8.0,
}  # fmt: skip
MODELS |= {
    "dfine": DFINE,
    "dfine of one width": DFINE
    | {
        "backbone_config": HGNETV2 | {"use_learnable_affine_block": False},
        "freeze_backbone_batch_norms": True,
        "d_model": 24,
        "reg_scale": 4.0,
    },
}
# Of images with enough places for 300 queries.
SIDES = {"rt_detr": 160, "rt_detr_v2": 160, "d_fine": 320}

DECODER_NAMES: list[Renaming] = [
    (r"^model\.decoder\.(class|bbox)_embed", r"decoder.dec_\1_head"),
    ("dec_class_head", "dec_score_head"),
    (r"^model\.decoder\.(query_pos_head|pre_bbox_head)", r"decoder.\1"),
    (r"^model\.decoder_input_proj\.(\d)\.0", r"decoder.input_proj.\1.conv"),
    (r"^model\.decoder_input_proj\.(\d)\.1", r"decoder.input_proj.\1.norm"),
    (r"^model\.(enc_score_head|enc_bbox_head|enc_output|denoising_class_embed)", r"decoder.\1"),
    (r"^model\.decoder\.layers", "decoder.decoder.layers"),
    (r"(decoder.layers.\d)\.encoder_attn_layer_norm", r"\1.norm2"),
    (r"(decoder.layers.\d)\.final_layer_norm", r"\1.norm3"),
    ("encoder_attn", "cross_attn"),
    ("n_points_scale", "num_points_scale"),
]
ENCODER_NAMES: list[Renaming] = [
    (r"^model\.encoder\.", "encoder."),
    (r"(encoder\.\d\.layers\.\d)\.final_layer_norm", r"\1.norm2"),
    ("self_attn_layer_norm", "norm1"),
    ("fc([12])", r"linear\1"),
]
RTDETR_NAMES: list[Renaming] = [
    (r"^model\.backbone\.model\.embedder\.embedder\.0", "backbone.conv1.conv1_1"),
    (r"^model\.backbone\.model\.embedder\.embedder\.1", "backbone.conv1.conv1_2"),
    (r"^model\.backbone\.model\.embedder\.embedder\.2", "backbone.conv1.conv1_3"),
    (
        r"^model\.backbone\.model\.encoder\.stages\.(\d)\.layers\.(\d)",
        r"backbone.res_layers.\1.blocks.\2",
    ),
    (r"^(backbone.*)\.shortcut\.1", r"\1.short.conv"),
    (r"^(backbone.*)\.shortcut", r"\1.short"),
    (r"^(backbone.*)\.layer\.0", r"\1.branch2a"),
    (r"^(backbone.*)\.layer\.1", r"\1.branch2b"),
    (r"^(backbone.*)\.layer\.2", r"\1.branch2c"),
    (r"^(backbone.*)\.convolution", r"\1.conv"),
    (r"^(backbone.*)\.normalization", r"\1.norm"),
]
DFINE_NAMES: list[Renaming] = [
    (r"^model\.backbone\.model\.embedder", "backbone.stem"),
    (r"^model\.backbone\.model\.encoder", "backbone"),
    (r"^(backbone.*)\.convolution", r"\1.conv"),
    (r"^(backbone.*)\.normalization", r"\1.bn"),
    (r"(encoder\.(?:fpn|pan)_blocks\.\d)\.conv1\.(conv|norm)", r"\1.cv1.\2"),
    (r"(encoder\.(?:fpn|pan)_blocks\.\d)\.conv2\.(conv|norm)", r"\1.cv2.1.\2"),
    (r"(encoder\.(?:fpn|pan)_blocks\.\d)\.conv3\.(conv|norm)", r"\1.cv3.1.\2"),
    (r"(encoder\.(?:fpn|pan)_blocks\.\d)\.conv4\.(conv|norm)", r"\1.cv4.\2"),
    (r"\.csp_rep1", ".cv2.0"),
    (r"\.csp_rep2", ".cv3.0"),
    (r"(downsample_convs\.\d)\.conv", r"\1.0.cv"),
    (r"^model\.decoder\.(up|reg_scale)", r"decoder.\1"),
    (r"^model\.decoder\.lqe_layers", "decoder.decoder.lqe_layers"),
    (r"num_points_scale", "n_points_scale"),
]
SECOND_NAMES: list[Renaming] = [
    (r"^model\.encoder_input_proj\.(\d)\.0", r"encoder.input_proj.\1.conv"),
    (r"^model\.encoder_input_proj\.(\d)\.1", r"encoder.input_proj.\1.norm"),
    (r"^model\.enc_output\.0", "decoder.enc_output.proj"),
    (r"^model\.enc_output\.1", "decoder.enc_output.norm"),
]
NAMES: dict[str, list[Renaming]] = {
    "rt_detr": [
        *RTDETR_NAMES,
        (r"^model\.encoder_input_proj", "encoder.input_proj"),
        *DECODER_NAMES,
        *ENCODER_NAMES,
    ],
    "rt_detr_v2": [*RTDETR_NAMES, *SECOND_NAMES, *DECODER_NAMES, *ENCODER_NAMES],
    "d_fine": [*DFINE_NAMES, *SECOND_NAMES, *DECODER_NAMES, *ENCODER_NAMES],
}


@cache
def model_of(variant: str) -> Any:
    return random_model(COMMON | MODELS[variant], 1 / 4)


@cache
def saved(variant: str) -> dict[str, Tensor]:
    """The tensors of a model as the official repository has them."""
    model = model_of(variant)
    state = in_file(model)
    # The decoder's heads have a second name.
    once = {name: state[name] for name in state if not name.startswith(("class_", "bbox_"))}
    found = official(once, NAMES[model.config.model_type])
    if "decoder.up" in found:
        found = twice_named_numbers(found)
    side = SIDES[model.config.model_type]
    return found if variant == "v1" else found | anchors_of(model, side, side)


def write(path: Path, variant: str, change: Change | None = None) -> Any:
    content = {
        "date": "2026-01-01",
        "last_epoch": 71,
        "model": dict(saved(variant)),
        "ema": {"module": dict(saved(variant)), "updates": 9},
        "optimizer": {"state": {}, "param_groups": []},
        "lr_scheduler": {"milestones": [1000]},
    }
    if change:
        change(content)
    torch.save(content, path)
    return model_of(variant)


@pytest.mark.parametrize("variant", MODELS)
def test_the_folder_computes_the_same(tmp_path: Path, variant: str) -> None:
    model = write(tmp_path / "official.pth", variant)
    assumed = bridged(tmp_path / "official.pth", tmp_path / "hf", "ema.module", heads=HEADS)
    side = SIDES[model.config.model_type]
    adapter = computes_the_same(tmp_path / "hf", model, 2, 3, side, side)
    assert adapter.classes == tuple(f"class_{i}" for i in range(5))
    processor = json.loads((tmp_path / "hf" / "preprocessor_config.json").read_text())
    told = 640 if variant == "v1" else side
    assert processor["size"] == {"height": told, "width": told}
    assert not processor["do_normalize"]
    assert "300 queries (--set num_queries)" in assumed


def without_scheduler(content: dict[str, Any]) -> None:
    del content["lr_scheduler"]


LAYERS = "decoder.decoder.layers"
SCALES = f"{LAYERS}.0.cross_attn.num_points_scale"
UNEVEN = torch.tensor([1 / 2] * 2 + [1 / 5] * 5 + [1 / 2] * 2)
REFUSED = [
    ("v1", renamed("short.conv.conv", "short.conv"), "its ResNet is not of variant d"),
    ("v1", renamed("backbone.", "backbone.model."), "another backbone than RT-DETR's ResNet"),
    ("dfine", renamed("backbone.stem", "backbone.conv"), "another backbone than HGNetV2"),
    ("v1", without("bottlenecks.2"), "2 blocks in each fusion"),
    ("v1", put("encoder.fpn_blocks.0.bottlenecks.0.conv.weight", UNEVEN), "has no place"),
    ("v1", put("decoder.tgt_embed.weight", UNEVEN), "learnt contents"),
    ("v1", put("encoder.encoder.1.layers.0.linear1.weight", UNEVEN), "2 transformers in the enc"),
    ("v2", put("decoder.enc_score_head.weight", torch.ones(1, 16)), "a score without class"),
    ("v2", put(SCALES, UNEVEN), r"\[2, 5, 2\] sampling points on 3 levels"),
    ("v2", put(SCALES, UNEVEN[1:]), "expected 1/n, n times"),
    ("v2", put("decoder.anchors", torch.ones(1, 525, 4)), "not those that transformers computes"),
    ("v2", put("decoder.anchors", torch.ones(1, 52, 4)), "not those that transformers computes"),
    ("v2", without("layers.0.linear1.weight"), 'no tensor "encoder.encoder.0.layers.0.linear1'),
    ("v2", put("decoder.dec_score_head.0.weight", UNEVEN), "expected 2 dimensions"),
    ("dfine", put(SCALES, UNEVEN), r"levels of \[2, 5, 2\] points, and the encoder has 2 levels"),
    ("dfine", without(SCALES), "levels of None points"),
    ("dfine", put(f"{LAYERS}.1.linear1.weight", torch.ones(56, 32)), "decoder layers of other wid"),
    ("dfine", put("decoder.up", UNEVEN), '"decoder.up" has 9 elements'),
    ("dfine", without("decoder.input_proj"), "decoder has 16 channels and the encoder 24"),
    ("dfine", put("encoder.input_proj.0.conv.weight", torch.ones(24, 5, 1, 1)), r"maps of \[5, 20"),
    # A place and nothing in it; names alone do not tell: a shape, and the end of a list that is
    # shorter than others.
    ("v2", without("enc_output.norm.bias"),
     r'"decoder\.enc_output\.norm\.bias" is missing; ".*" is there'),
    ("v2", put("decoder.enc_output.norm.bias", UNEVEN),
     r'tensor "decoder.enc_output.norm.bias" has shape \(9,\), the model expects \(16,\)'),
    ("v2", put("decoder.decoder.layers.0.self_attn.in_proj_bias", UNEVEN),
     r'in_proj_bias, part . of 3" has shape \(3,\), the model expects'),
    ("v2", without(r"decoder\.dec_(score|bbox)_head\.1\."),
     r'"bbox_embed\.1\..* of the model is missing in the file'),
]  # fmt: skip


@pytest.mark.parametrize(("variant", "change", "message"), REFUSED)
def test_what_has_no_counterpart_is_refused(
    tmp_path: Path, variant: str, change: Change, message: str
) -> None:
    write(tmp_path / "official.pth", variant, change)
    refused(tmp_path / "official.pth", message, "ema.module", heads=HEADS)


def test_what_the_file_does_not_tell_is_said(tmp_path: Path) -> None:
    write(tmp_path / "official.pth", "v2", lambda content: content.pop("optimizer"))
    assert bridged(tmp_path / "official.pth", tmp_path / "hf", "model") == (
        "names class_0 to class_4 (--class-names)",
        "300 queries (--set num_queries)",
        "8 heads in each attention (--num-heads)",
        "the last decoder layer detects (eval_idx: -1)",
        "activations of the repository's configurations",
        "bilinear sampling (--set cross_attn_method=discrete)",
        "queries chosen by their best class (query_select_method: default)",
        "ReLU in the decoder (of DEIM: --set mlp_act=silu)",
        'the weights "model", where the repository evaluates their average (--weights ema.module)',
    )
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    # The scale of offsets tells the decoder's, and nothing the encoder's.
    assert (config["encoder_attention_heads"], config["decoder_attention_heads"]) == (8, HEADS)


@pytest.mark.parametrize("variant", ["v2", "dfine"])
def test_discrete_sampling_is_told(tmp_path: Path, variant: str) -> None:
    write(tmp_path / "official.pth", variant)
    images = torch.randn(1, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    outputs = []
    for value in ("default", "discrete"):
        told = {"weights": "ema.module", "heads": HEADS, "arguments": {"cross_attn_method": value}}
        said = bridged(tmp_path / "official.pth", tmp_path / value, **told)
        assert not any("sampling" in words for words in said)
        with open_checkpoint(tmp_path / value) as checkpoint, torch.no_grad():
            module = open_adapter(checkpoint).module
            outputs.append(module(images).logits)
    # The first once more, by the library's own switch.
    with open_checkpoint(tmp_path / "default") as checkpoint, torch.no_grad():
        module = open_adapter(checkpoint).module
        for one in module.modules():
            for name in ("method", "decoder_method"):
                if hasattr(one, name):
                    setattr(one, name, "discrete")
        expected = module(images).logits
    assert torch.equal(outputs[1], expected)
    assert not torch.equal(outputs[0], expected)


def silu_in_decoder(model: Any) -> Any:
    """A copy with SiLU in the decoder, by the library's own parts."""
    made = copy.deepcopy(model)
    for layer in made.model.decoder.layers:
        for name in ("activation_fn", "act"):
            for part in (layer, getattr(layer, "mlp", None)):
                if hasattr(part, name):
                    setattr(part, name, nn.SiLU())
    decoder = made.model.decoder
    heads = [decoder.query_pos_head, made.model.enc_bbox_head, *decoder.bbox_embed]
    if hasattr(decoder, "pre_bbox_head"):
        heads += [decoder.pre_bbox_head, *(one.reg_conf for one in decoder.lqe_layers)]
    for head in heads:
        with_silu(head)
    return made


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ("v2", "by the state of training"),
        ("v2", "by the user"),
        ("v2", "by the heads"),
        ("dfine", "by the state of training"),
        ("dfine", "by the user"),
    ],
)
def test_deim(tmp_path: Path, variant: str, told: str) -> None:
    """D-FINE and RT-DETRv2 with SiLU, and of the second perhaps another encoding of boxes."""
    model, change = silu_in_decoder(model_of(variant)), None
    arguments = {"mlp_act": "silu"} if told == "by the user" else {}
    if told == "by the state of training":
        change = without_scheduler
    elif told == "by the heads":
        width = model.config.d_model
        with torch.random.fork_rng():
            torch.manual_seed(1)
            layers = [nn.Linear(size, width) for size in (4, width, width)]
        model.model.decoder.query_pos_head.forward = nn.Sequential(
            layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2]
        ).forward

        def change(content: dict[str, Any]) -> None:
            for i, layer in enumerate(layers):
                for name, tensor in layer.state_dict().items():
                    content["ema"]["module"][f"decoder.query_pos_head.layers.{i}.{name}"] = tensor

    write(tmp_path / "deim.pth", variant, change)
    assumed = bridged(
        tmp_path / "deim.pth", tmp_path / "hf", "ema.module", heads=HEADS, arguments=arguments
    )
    said = "SiLU in the decoder, as in DEIM (--set mlp_act=relu)"
    assert (said in assumed) == (told != "by the user")
    assert not any(words.startswith("ReLU") for words in assumed)
    side = SIDES[model.config.model_type]
    computes_the_same(tmp_path / "hf", model, 2, 3, side, side)
    with pytest.raises(AssertionError):
        computes_the_same(tmp_path / "hf", model_of(variant), 2, 3, side, side)


def test_what_distilled_an_rt_detrv4_tells_that_it_has_silu(tmp_path: Path) -> None:
    """It is D-FINE, with a projection that only training has."""
    projection = {"weight": torch.ones(768, 24), "bias": torch.ones(768)}

    def distilled(content: dict[str, Any]) -> None:
        for name, tensor in projection.items():
            content["ema"]["module"][f"encoder.feature_projector.0.{name}"] = tensor

    write(tmp_path / "v4.pth", "dfine", distilled)
    assumed = bridged(tmp_path / "v4.pth", tmp_path / "hf", "ema.module", heads=HEADS)
    assert "SiLU in the decoder, as in DEIM (--set mlp_act=relu)" in assumed
    computes_the_same(tmp_path / "hf", silu_in_decoder(model_of("dfine")), 2, 3, 320, 320)


def test_deim_s_folder_opens_without_this_project(tmp_path: Path) -> None:
    write(tmp_path / "deim.pth", "dfine", without_scheduler)
    bridged(tmp_path / "deim.pth", tmp_path / "hf", "ema.module", heads=HEADS)
    computes_the_same(tmp_path / "hf", opened_by_transformers(tmp_path / "hf"), 2, 3, 320, 320)


def test_an_argument_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "official.pth", "v2")
    for arguments, message in (
        ({"method": "discrete"}, r"--set method tells nothing .* takes .*, mlp_act, num_queries"),
        ({"cross_attn_method": "near"}, "is .near.; expected default or discrete"),
        ({"num_queries": "many"}, "num_queries is .many.; expected a number from 1 to 999,999"),
        ({"num_queries": "9" * 5000}, "expected a number from 1 to 999,999"),
        ({"num_queries": "526"}, "526 queries .* among the 525 places of a 160x160 image"),
    ):
        refused(tmp_path / "official.pth", message, "ema.module", heads=HEADS, arguments=arguments)


def test_a_size_whose_maps_do_not_fit_together_is_refused(tmp_path: Path) -> None:
    """Which is told to a file without anchors, as those of the first RT-DETR are."""
    write(tmp_path / "official.pth", "v1")
    for side, message in (
        ("100", "is 100; expected a multiple of 32"),
        ("8192", "is 8192; expected .* up to 4096"),
        ("96", "300 queries .* among the 189 places of a 96x96 image"),
    ):
        told = {"heads": HEADS, "arguments": {"eval_spatial_size": side}}
        refused(tmp_path / "official.pth", message, "ema.module", **told)


def test_layers_that_evaluation_does_not_run_are_left_out(tmp_path: Path) -> None:
    """The configuration of RT-DETR-M trains six layers, and evaluates the third."""
    second = re.compile(r"(decoder\.(?:decoder\.layers|dec_score_head|dec_bbox_head))\.1\.(.*)")
    again = [
        (match[1], match[2], tensor)
        for name, tensor in saved("m").items()
        if (match := second.fullmatch(name))
    ]

    def six_layers(content: dict[str, Any]) -> None:
        for begin, end, tensor in again:
            content["ema"]["module"] |= {f"{begin}.{i}.{end}": tensor for i in range(2, 6)}

    write(tmp_path / "official.pth", "m", six_layers)
    with open_checkpoint(tmp_path / "official.pth", "ema.module") as checkpoint:
        done = to_transformers(checkpoint, heads=HEADS)
        write_bridge(done, tmp_path / "hf")
    assert (
        "decoder layer 3 of 6 detects, as in the configuration of this size" in done.model.assumed
    )
    assert len(done.dropped) == 2 + 3 * len(again)
    assert len(adapter_of(tmp_path / "hf").module.model.decoder.layers) == 3

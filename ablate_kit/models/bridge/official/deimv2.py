"""DEIMv2 (Huang et al. 2025), as https://github.com/Intellindust-AI-Lab/DEIMv2 saves it: with
HGNetV2 or a DINOv3."""

from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.architectures.bundled import BUNDLED
from ablate_kit.models.bridge.counterpart import IMAGENET_MEAN, IMAGENET_STD, Counterpart
from ablate_kit.models.bridge.name_rules import NameRule, both, packed
from ablate_kit.models.bridge.official.dfine import (
    DOWNSAMPLING_RULES,
    REFINEMENT_RULES,
    expansion,
    refining_decoder,
)
from ablate_kit.models.bridge.official.dinov3 import DINOV3_RULES, DROPPED, dinov3_config
from ablate_kit.models.bridge.official.hgnetv2 import hgnetv2_config, hgnetv2_rules
from ablate_kit.models.bridge.official.hybrid_encoder import (
    DECODER,
    HEAD_RULES,
    RECOMPUTED,
    conv_norm,
    conv_norms,
    decoder_config,
    encoder_config,
    handed_on,
    shared_processor,
)
from ablate_kit.models.bridge.official.told_by_file import Told

KIND = "original_deimv2"
FEED_FORWARD = "swish_ffn.w12"
QUERIES = {64: 100, 96: 150, 112: 200}  # of the smallest published models, by width
STRIDES = [8, 16, 32]
LITE = "encoder.bi_fusion.cv.conv.weight"


def _fusion(source: str, target: str) -> tuple[NameRule, ...]:
    """A block of two branches, each of a CSP layer and perhaps a convolution."""
    parts = {"cv1": "conv1", "cv4": "conv2"}
    for i in (2, 3):
        there = f"csp_rep{i - 1}"
        parts |= {
            f"cv{i}.0.conv1": f"{there}.conv1",
            f"cv{i}.0.bottlenecks.{{b}}.conv{{c}}": f"{there}.bottlenecks.{{b}}.conv{{c}}",
            f"cv{i}.1": f"{there}.conv2",
        }
    return conv_norms(source, target, parts)


_LAYER, _HF_LAYER = f"{DECODER}.{{layer}}", "model.decoder.layers.{layer}"
_ENCODER_LAYER, _HF_ENCODER_LAYER = (
    "encoder.encoder.{i}.layers.{layer}",
    "model.encoder.aifi.{i}.layers.{layer}",
)
_HYBRID = (
    *conv_norm("encoder.input_proj.{i}", "model.conv_encoder.encoder_input_proj.{i}"),
    *packed(f"{_ENCODER_LAYER}.self_attn", f"{_HF_ENCODER_LAYER}.self_attn", "o_proj"),
    *(
        both(f"{_ENCODER_LAYER}.{source}", f"{_HF_ENCODER_LAYER}.{target}")
        for source, target in {
            "linear1": "mlp.layers.0",
            "linear2": "mlp.layers.1",
            "norm1": "self_attn_layer_norm",
            "norm2": "final_layer_norm",
        }.items()
    ),
    *conv_norm("encoder.lateral_convs.{i}", "model.encoder.lateral_convs.{i}"),
    *(
        rule
        for blocks in ("fpn_blocks", "pan_blocks")
        for rule in _fusion(f"encoder.{blocks}.{{i}}", f"model.encoder.{blocks}.{{i}}")
    ),
    *DOWNSAMPLING_RULES,
)
_LITE = (
    *conv_norm("encoder.input_proj.{i}", "model.encoder.input_proj.{i}"),
    *(
        rule
        for i in (1, 2)
        for rule in conv_norm(
            f"encoder.down_sample{i}", f"model.encoder.down_conv{i}", names=("1", "2")
        )
    ),
    *conv_norm("encoder.bi_fusion.cv", "model.encoder.bi_fusion_conv"),
    *(
        rule
        for block in ("fpn_block", "pan_block")
        for rule in _fusion(f"encoder.{block}", f"model.encoder.{block}")
    ),
)
_REST = (
    *hgnetv2_rules("model.conv_encoder.model"),
    *DINOV3_RULES,
    *conv_norm("decoder.input_proj.{i}", "model.decoder_input_proj.{i}"),
    *packed(f"{_LAYER}.self_attn", f"{_HF_LAYER}.self_attn", "o_proj"),
    *(
        NameRule(f"{_LAYER}.{source}.scale", (f"{_HF_LAYER}.{target}.weight",))
        for source, target in {
            "norm1": "self_attn_layer_norm",
            "norm2": "encoder_attn_layer_norm",
            "norm3": "final_layer_norm",
            "gateway.norm": "gateway.norm",
        }.items()
    ),
    NameRule(
        f"{_LAYER}.{FEED_FORWARD}.{{p}}",
        (f"{_HF_LAYER}.mlp.gate_proj.{{p}}", f"{_HF_LAYER}.mlp.up_proj.{{p}}"),
    ),
    both(f"{_LAYER}.swish_ffn.w3", f"{_HF_LAYER}.mlp.down_proj"),
    *REFINEMENT_RULES,
    *HEAD_RULES,
)


SIGNS = {
    f"{DECODER}.0.{FEED_FORWARD}.weight",
    "decoder.pre_bbox_head.layers.0.weight",
    "decoder.dec_score_head.0.weight",
}


def counterpart(told: Told) -> Counterpart:
    dinov3 = any(name.startswith("backbone.dinov3.") for name in told.checkpoint.tensors)
    lite = LITE in told
    width = told.rows(LITE if lite else "encoder.lateral_convs.0.conv.weight", 4)
    if dinov3:
        settings, strides, inputs = dinov3_config(told), STRIDES, [width] * len(STRIDES)
    else:
        backbone = hgnetv2_config(told)
        stages, inputs = _handed_on(told, backbone["hidden_sizes"], width, lite)
        backbone["out_features"] = [f"stage{one + 1}" for one in stages]
        settings, strides = {"backbone_config": backbone}, [4 * 2**one for one in stages]
    queries = QUERIES.get(width, 300) if lite else 300
    config = decoder_config(told, "OriginalDeimv2", KIND, settings["backbone_config"], queries)
    config |= settings | {"auto_map": BUNDLED[KIND].auto_map}
    if lite:
        strides = [*strides, 2 * strides[-1]]
        config |= {
            "encoder_type": "lite",
            "encoder_hidden_dim": width,
            "encoder_in_channels": inputs,
            "feat_strides": strides,
            "encoder_layers": 0,
        }
    else:
        config |= encoder_config(told, strides, inputs)
    config |= {
        **_fusion_config(told, "encoder.fpn_block" if lite else "encoder.fpn_blocks.0", width),
        **refining_decoder(told, width, len(strides), FEED_FORWARD),
        "decoder_ffn_dim": told.rows(f"{DECODER}.0.{FEED_FORWARD}.weight"),
        "decoder_activation_function": "silu",
        "use_gateway": f"{DECODER}.0.gateway.gate.weight" in told,
        "share_bbox_head": _shares_boxes(told),
    }
    processor = shared_processor(told, strides, config["num_queries"], any_shape=lite)
    if dinov3:
        colors = {"image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
        processor |= {"do_normalize": True, **colors}
    told.average_is_evaluated()
    rules = (*(_LITE if lite else _HYBRID), *_REST)
    return told.counterpart(config, processor, rules, (*RECOMPUTED, *DROPPED))


def _handed_on(told: Told, sizes: list[int], width: int, lite: bool) -> tuple[list[int], list[int]]:
    """As ``handed_on``; a hybrid encoder takes a map of as many channels as it has as it is."""
    name = "encoder.input_proj.{}.conv.weight"
    if lite:
        return handed_on(told, sizes, name)
    count = told.count("encoder.lateral_convs") + 1
    taken = [
        told.shape(name.format(i), 4)[1] if name.format(i) in told else width for i in range(count)
    ]
    if taken != sizes[-count:]:
        raise UserError(
            f"the encoder takes maps of {taken} channels and the backbone has {sizes}; expected "
            f"the last {count} of them"
        )
    return list(range(len(sizes) - count, len(sizes))), taken


def _fusion_config(told: Told, block: str, width: int) -> dict[str, Any]:
    if told.shape(f"{block}.cv1.conv.weight", 4)[1] != width:
        raise UserError(
            "maps are put beside each other before they are fused (fuse_op: cat), which has no "
            "counterpart in transformers; expected their sum"
        )
    inner = told.rows(f"{block}.cv2.0.conv1.conv.weight", 4) // 2
    return {
        "hidden_expansion": expansion(inner, width),
        "depth_mult": told.count(f"{block}.cv2.0.bottlenecks") / 3,
        "encoder_has_trailing_conv": f"{block}.cv2.1.conv.weight" in told,
    }


def _shares_boxes(told: Told) -> bool:
    """Whether all layers have one head of boxes, which the file holds once for each."""
    import torch  # by which no command that needs none waits

    names = [
        f"decoder.dec_bbox_head.{{}}.layers.{i}.weight"
        for i in range(told.count("decoder.dec_bbox_head.0.layers"))
    ]
    layers = range(1, told.count("decoder.dec_bbox_head"))
    read = told.checkpoint.read
    return bool(layers) and all(
        torch.equal(read(name.format(0)), read(name.format(i))) for name in names for i in layers
    )

"""RT-DETR (Zhao et al. 2024) and RT-DETRv2, as https://github.com/lyuwenyu/RT-DETR saves them:
with its ResNet ("PResNet", of variant d) 18 to 101."""

from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.name_rules import NameRule, both, deformable
from ablate_kit.models.bridge.official.hybrid_encoder import (
    DECODER,
    POSITION,
    RECOMPUTED,
    as_deim,
    conv_norm,
    handed_on,
    points,
    sampling,
    shared_config,
    shared_processor,
    shared_rules,
    without_layers,
)
from ablate_kit.models.bridge.official.told_by_file import Told

BLOCKS = 3  # in each fusion of transformers' model

STEM, STAGES = "backbone.conv1", "backbone.res_layers"
HF = "model.backbone.model"
_NAMES = ("convolution", "normalization")
_BLOCK = f"{STAGES}.{{stage}}.blocks.{{block}}"
_HF_BLOCK = f"{HF}.encoder.stages.{{stage}}.layers.{{block}}"

_RESNET_RULES = (
    *conv_norm(f"{STEM}.conv1_{{n+1}}", f"{HF}.embedder.embedder.{{n}}", target_names=_NAMES),
    *(
        rule
        for i, branch in enumerate("abc")
        for rule in conv_norm(
            f"{_BLOCK}.branch2{branch}", f"{_HF_BLOCK}.layer.{i}", target_names=_NAMES
        )
    ),
    *conv_norm(f"{_BLOCK}.short", f"{_HF_BLOCK}.shortcut", target_names=_NAMES),
    # Behind a pooling, in stages that halve the map.
    *conv_norm(f"{_BLOCK}.short.conv", f"{_HF_BLOCK}.shortcut.1", target_names=_NAMES),
)

_ATTENTION, _HF_ATTENTION = (
    f"{DECODER}.{{layer}}.cross_attn",
    "model.decoder.layers.{layer}.encoder_attn",
)
RULES = (
    *_RESNET_RULES,
    *shared_rules(("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")),
    # As the first version has these.
    *conv_norm(
        "encoder.input_proj.{i}", "model.encoder_input_proj.{i}", ("0", "1"), ("0", "1")
    ),
    both("decoder.enc_output.0", "model.enc_output.0"),
    both("decoder.enc_output.1", "model.enc_output.1"),
    *conv_norm("encoder.downsample_convs.{i}", "model.encoder.downsample_convs.{i}"),
    *(
        rule
        for blocks in ("fpn_blocks", "pan_blocks")
        for inner in ("conv{c}", "bottlenecks.{b}.conv{c}")
        for rule in conv_norm(
            f"encoder.{blocks}.{{i}}.{inner}", f"model.encoder.{blocks}.{{i}}.{inner}"
        )
    ),
    *deformable(_ATTENTION, _HF_ATTENTION),
    NameRule(f"{_ATTENTION}.num_points_scale", (f"{_HF_ATTENTION}.n_points_scale",)),
)  # fmt: skip


SIGNS = {
    "encoder.fpn_blocks.0.conv1.conv.weight",
    "decoder.dec_score_head.0.weight",
    f"{DECODER}.0.cross_attn.value_proj.weight",
}


def counterpart(told: Told) -> Counterpart:
    backbone = _resnet_config(told)
    first = "encoder.input_proj.0.conv.weight" not in told
    weight = "encoder.input_proj.{}.0.weight" if first else "encoder.input_proj.{}.conv.weight"
    stages, inputs = handed_on(told, backbone["hidden_sizes"], weight)
    sampled = points(told)
    kind = ("RTDetr", "rt_detr") if sampled is None else ("RTDetrV2", "rt_detr_v2")
    config = shared_config(told, *kind, backbone, stages, inputs)
    width = config["encoder_hidden_dim"]
    inside = told.rows("encoder.fpn_blocks.0.conv1.conv.weight", 4)
    if told.count("encoder.fpn_blocks.0.bottlenecks") != BLOCKS:
        raise UserError(
            f"{told.count('encoder.fpn_blocks.0.bottlenecks')} blocks in each fusion (depth_mult) "
            f"have no counterpart in transformers; expected {BLOCKS}"
        )
    levels = told.count("decoder.input_proj")
    if levels != len(inputs):
        raise UserError(
            f"{levels} levels in the decoder of {len(inputs)} in the encoder have no counterpart"
        )
    heads, each = _heads(told, levels, sampled, config["encoder_attention_heads"])
    layers = told.count(DECODER)
    kept = layers
    if backbone["layer_type"] == "bottleneck" and 2 * inside == width and layers == 6:
        kept = 3
        told.assumed.append("decoder layer 3 of 6 detects, as in the configuration of this size")
    else:
        told.assumed.append("the last decoder layer detects (eval_idx: -1)")
    told.assumed.append("activations of the repository's configurations")
    config |= {
        "hidden_expansion": inside / width,
        "decoder_in_channels": [width] * levels,
        "num_feature_levels": levels,
        "decoder_layers": kept,
        "decoder_attention_heads": heads,
        "decoder_n_points": each,
    }
    if sampled is not None:
        config["decoder_n_levels"] = levels
        config |= sampling(told)
        told.assumed.append("queries chosen by their best class (query_select_method: default)")
        config = as_deim(told, config)
        if config["model_type"].startswith("deim"):
            config["query_pos_layers"] = told.count(POSITION)
    processor = shared_processor(told, config["feat_strides"], config["num_queries"])
    told.average_is_evaluated()
    dropped = (*RECOMPUTED, *without_layers(told, kept))
    return told.counterpart(config, processor, RULES, dropped)


def _heads(told: Told, levels: int, sampled: list[int] | None, assumed: int) -> tuple[int, int]:
    """Heads of the decoder, and sampling points of each on each level."""
    together = told.rows(f"{DECODER}.0.cross_attn.attention_weights.weight")
    if sampled is None:
        if together % (assumed * levels):
            raise UserError(f"{assumed} heads of {levels} levels do not divide {together} points")
        return assumed, together // (assumed * levels)
    if sampled != [sampled[0]] * levels:
        raise UserError(
            f"{sampled} sampling points on {levels} levels have no counterpart in transformers, "
            "which has one number for all"
        )
    if together % sum(sampled):
        raise UserError(f"{sum(sampled)} points of a head do not divide {together}")
    return together // sum(sampled), sampled[0]


def _resnet_config(told: Told) -> dict[str, Any]:
    if f"{STEM}.conv1_1.conv.weight" not in told:
        raise UserError(
            f"{told.checkpoint} has another backbone than RT-DETR's ResNet (PResNet), the only one "
            "whose counterpart in transformers is known"
        )
    for name in (f"{STEM}.conv1_3", f"{STAGES}.1.blocks.0.short.conv"):
        if f"{name}.conv.weight" not in told:
            raise UserError(
                f"{told.checkpoint} has no {name}: its ResNet is not of variant d, the only one "
                "that transformers has for RT-DETR"
            )
    bottleneck = f"{STAGES}.0.blocks.0.branch2c.conv.weight" in told
    last = "branch2c" if bottleneck else "branch2b"
    stages = range(told.count(STAGES))
    return {
        "model_type": "rt_detr_resnet",
        "embedding_size": told.rows(f"{STEM}.conv1_3.conv.weight", 4),
        "hidden_sizes": [told.rows(f"{STAGES}.{i}.blocks.0.{last}.conv.weight", 4) for i in stages],
        "depths": [told.count(f"{STAGES}.{i}.blocks") for i in stages],
        "layer_type": "bottleneck" if bottleneck else "basic",
        "hidden_act": "relu",
    }

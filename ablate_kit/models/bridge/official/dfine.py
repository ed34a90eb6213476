"""D-FINE (Peng et al. 2025), as https://github.com/Peterande/D-FINE saves it: with HGNetV2."""

from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official.hgnetv2 import hgnetv2_config, hgnetv2_rules
from ablate_kit.models.bridge.official.hybrid_encoder import (
    DECODER,
    DISTILLED,
    RECOMPUTED,
    as_deim,
    conv_norm,
    conv_norms,
    handed_on,
    points,
    sampling,
    shared_config,
    shared_processor,
    shared_rules,
)
from ablate_kit.models.bridge.official.told_by_file import Told

LQE = "decoder.decoder.lqe_layers.0.reg_conf.layers"
FUSION = "encoder.fpn_blocks.0"


def _fusion(source: str, target: str) -> tuple[NameRule, ...]:
    """A block of two branches, each of a CSP layer and a convolution."""
    parts = {"cv1": "conv1", "cv4": "conv4"}
    for i in (2, 3):
        csp, there = f"cv{i}.0", f"csp_rep{i - 1}"
        parts |= {
            f"{csp}.conv{{c}}": f"{there}.conv{{c}}",
            f"{csp}.bottlenecks.{{b}}.conv{{c}}": f"{there}.bottlenecks.{{b}}.conv{{c}}",
            f"cv{i}.1": f"conv{i}",
        }
    return conv_norms(source, target, parts)


_LAYER, _HF_LAYER = f"{DECODER}.{{layer}}", "model.decoder.layers.{layer}"
REFINEMENT_RULES = (
    *(
        both(f"{_LAYER}.cross_attn.{name}", f"{_HF_LAYER}.encoder_attn.{name}")
        for name in ("sampling_offsets", "attention_weights")
    ),
    NameRule(
        f"{_LAYER}.cross_attn.num_points_scale", (f"{_HF_LAYER}.encoder_attn.num_points_scale",)
    ),
    both(f"{_LAYER}.gateway.gate", f"{_HF_LAYER}.gateway.gate"),
    both("decoder.pre_bbox_head.layers.{i}", "model.decoder.pre_bbox_head.layers.{i}"),
    both(
        "decoder.decoder.lqe_layers.{n}.reg_conf.layers.{i}",
        "model.decoder.lqe_layers.{n}.reg_conf.layers.{i}",
    ),
    # One parameter each, under two names.
    *(
        NameRule(f"{place}.{name}", (f"model.decoder.{name}",), tied=True)
        for name in ("up", "reg_scale")
        for place in ("decoder", "decoder.decoder")
    ),
)
"""Of a decoder that refines distributions of the edges of boxes."""
DOWNSAMPLING_RULES = conv_norm(
    "encoder.downsample_convs.{i}.0.cv{c}", "model.encoder.downsample_convs.{i}.conv{c}"
)
RULES = (
    *hgnetv2_rules("model.backbone.model"),
    *shared_rules(("self_attn_layer_norm", "", "final_layer_norm")),
    *(
        rule
        for blocks in ("fpn_blocks", "pan_blocks")
        for rule in _fusion(f"encoder.{blocks}.{{i}}", f"model.encoder.{blocks}.{{i}}")
    ),
    *DOWNSAMPLING_RULES,
    *REFINEMENT_RULES,
    both(f"{_LAYER}.gateway.norm", f"{_HF_LAYER}.gateway.norm"),
)


SIGNS = {
    "encoder.fpn_blocks.0.cv1.conv.weight",
    "decoder.pre_bbox_head.layers.0.weight",
    "decoder.dec_score_head.0.weight",
    f"{DECODER}.0.gateway.gate.weight",
}


def counterpart(told: Told) -> Counterpart:
    backbone = hgnetv2_config(told)
    stages, inputs = handed_on(told, backbone["hidden_sizes"], "encoder.input_proj.{}.conv.weight")
    config = shared_config(told, "DFine", "d_fine", backbone, stages, inputs)
    width = config["encoder_hidden_dim"]
    refining = refining_decoder(told, width, len(inputs), "linear1")
    config = as_deim(told, config) | {
        "hidden_expansion": expansion(told.rows(f"{FUSION}.cv2.1.conv.weight", 4), width),
        "depth_mult": told.count(f"{FUSION}.cv2.0.bottlenecks") / 3,
        **refining,
    }
    processor = shared_processor(told, config["feat_strides"], config["num_queries"])
    told.average_is_evaluated()
    dropped = (*RECOMPUTED, f"{DISTILLED}.{{i}}.{{p}}")
    return told.counterpart(config, processor, RULES, dropped)


def refining_decoder(told: Told, encoder: int, levels: int, feed_forward: str) -> dict[str, Any]:
    """Settings of a decoder behind an ``encoder`` of so many channels and ``levels``;
    ``feed_forward`` names the first linear layer of a decoder layer's."""
    width = told.rows("decoder.enc_bbox_head.layers.0.weight")
    if (width != encoder) != ("decoder.input_proj.0.conv.weight" in told):
        raise UserError(
            f"the decoder has {width} channels and the encoder {encoder}; expected a "
            "projection between them where they differ"
        )
    sampled = points(told)
    if sampled is None or len(sampled) != levels:
        raise UserError(
            f"the decoder samples from levels of {sampled} points, and the encoder has "
            f"{levels} levels; expected a number of points for each"
        )
    together = told.rows(f"{DECODER}.0.cross_attn.attention_weights.weight")
    if together % sum(sampled):
        raise UserError(f"{sum(sampled)} points of a head do not divide {together}")
    layers = range(told.count(DECODER))
    if len({told.shape(f"{DECODER}.{i}.{feed_forward}.weight") for i in layers}) > 1:
        raise UserError("decoder layers of other widths (layer_scale) have no counterpart")
    told.assumed += [
        "the last decoder layer detects (eval_idx: -1)",
        "activations of the repository's configurations",
    ]
    method = sampling(told)
    told.assumed.append("queries chosen by their best class (query_select_method: default)")
    return {
        "decoder_in_channels": [encoder] * levels,
        "num_feature_levels": levels,
        "decoder_layers": len(layers),
        "eval_idx": -1,
        "decoder_attention_heads": together // sum(sampled),
        "decoder_n_points": sampled,
        **method,
        **_distributions(told),
    }


def _distributions(told: Told) -> dict[str, Any]:
    """How boxes are read off the distributions of their edges."""
    values = {name: told.checkpoint.read(f"decoder.{name}") for name in ("up", "reg_scale")}
    for name, value in values.items():
        if value.numel() != 1:
            raise UserError(f'"decoder.{name}" has {value.numel()} elements; expected one')
    last = told.count("decoder.dec_bbox_head.0.layers") - 1
    hidden, statistics = told.shape(f"{LQE}.0.weight")
    return {
        "max_num_bins": told.rows(f"decoder.dec_bbox_head.0.layers.{last}.weight") // 4 - 1,
        "lqe_layers": told.count(LQE),
        "lqe_hidden_dim": hidden,
        "top_prob_values": statistics // 4 - 1,
        # A whole number in the file where the configuration has one.
        **{name: float(value) for name, value in values.items()},
    }


def expansion(inner: int, width: int) -> float:
    """From which transformers computes ``inner`` channels: ``round(expansion * width // 2)``."""
    return (2 * inner + 0.5) / width  # in the middle of those that give it

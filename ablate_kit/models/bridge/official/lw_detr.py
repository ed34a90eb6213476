"""LW-DETR (Chen et al. 2024), as https://github.com/Atten4Vis/LW-DETR saves it: with ViT."""

import math
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart, detector_config
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official.group_detr import (
    GROUP_SIGNS,
    HF_PROJECTOR,
    PROJECTOR,
    SHARED,
    check_proposals,
    projector_rules,
    shared_config,
    shared_processor,
)
from ablate_kit.models.bridge.official.hybrid_encoder import conv_norm
from ablate_kit.models.bridge.official.told_by_file import Told

VIT, HF_VIT = "backbone.0.encoder", "model.backbone.backbone"
BLOCKS, PATCHES = f"{VIT}.blocks", f"{VIT}.patch_embed.proj"
SAMPLED = "backbone.0.projector.stages_sampling"
OTHER_BACKBONE = f"{VIT}.conv1.conv1_1.conv.weight"  # of its ResNet
SIGNS = {f"{PATCHES}.weight", *GROUP_SIGNS}
OTHER_SIGNS = {OTHER_BACKBONE, *GROUP_SIGNS}
HEADS = 12  # in each block, whatever the size
WINDOWS = 4  # on a side
SIDE = 640  # of the images
# Blocks that see windows, and those whose features are taken, of the published models by depth.
PUBLISHED = {6: ((0, 2, 4), (1, 3, 5)), 10: ((0, 1, 3, 6, 7, 9), (2, 4, 5, 9))}


def counterpart(told: Told) -> Counterpart:
    if OTHER_BACKBONE in told:
        raise UserError(
            f"{told.checkpoint} has a ResNet as backbone; transformers' model has ViT alone"
        )
    scales = [_scale(told, level) for level in range(told.count(PROJECTOR))]
    backbone = _backbone(told)
    config = {
        **detector_config("LwDetr", "lw_detr", told.classes(told.rows("class_embed.weight"))),
        **shared_config(told, len(scales)),
        "backbone_config": backbone,
        "projector_scale_factors": scales,
        "activation_function": "silu",
        "decoder_activation_function": "relu",
    }
    told.must("square_resize_div_64", True, words=f"images squeezed to {SIDE} by {SIDE} pixels")
    cells = SIDE // backbone["patch_size"]
    check_proposals(told, config["num_queries"], [int(cells * scale) for scale in scales])
    processor = shared_processor(told, SIDE, config["num_queries"])
    told.average_is_evaluated()
    return told.counterpart(config, processor, RULES)


def _scale(told: Told, level: int) -> float:
    """By how much a level is larger than the map of patches."""
    first = f"{SAMPLED}.{level}.0"
    if f"{first}.1.weight" in told or f"{first}.0.weight" in told:  # a transposed convolution
        return 2.0
    return 0.5 if f"{first}.0.conv.weight" in told else 1.0


def _backbone(told: Told) -> dict[str, Any]:
    width, _, patch, _ = told.shape(f"{PATCHES}.weight", 4)
    if width % HEADS:
        raise UserError(f"the backbone has {width} channels; expected a multiple of {HEADS}")
    depth = told.count(BLOCKS)
    if depth not in PUBLISHED and not {"window_block_indexes", "out_feature_indexes"} <= (
        told.arguments.keys()
    ):
        raise UserError(
            f"{told.checkpoint} does not tell window_block_indexes and out_feature_indexes; no "
            f"published model has {depth} blocks"
        )
    windowed, taken = PUBLISHED.get(depth, ((), ()))
    windowed = told.numbers("window_block_indexes", windowed, "windows in blocks {}", least=0)
    taken = told.numbers("out_feature_indexes", taken, "features of blocks {}", least=-depth)
    features = sorted({i % depth for i in taken if i < depth})
    # Of the features as the first level takes them, side by side.
    narrower = 1 if _scale(told, 0) < 2 else 2 if width <= 512 else 4
    inputs = width // narrower * len(features)
    if told.shape(f"{PROJECTOR}.0.0.cv1.conv.weight", 4)[1] != inputs:
        raise UserError(f"the projector does not fit to the features of blocks {features}")
    return {
        "model_type": "lw_detr_vit",
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": HEADS,
        "mlp_ratio": told.rows(f"{BLOCKS}.0.mlp.fc1.weight") // width,
        "image_size": SIDE,
        "pretrain_image_size": math.isqrt(told.shape(f"{VIT}.pos_embed", 3)[1] - 1) * patch,
        "patch_size": patch,
        "num_windows": WINDOWS**2,
        "window_block_indices": list(windowed),
        "out_features": [f"stage{i + 1}" for i in features],
        "layer_norm_eps": 1e-6,
    }


def _rules() -> tuple[NameRule, ...]:
    block, hf_block = f"{BLOCKS}.{{layer}}", f"{HF_VIT}.encoder.layer.{{layer}}"
    level = f"{HF_PROJECTOR}.scale_layers.{{level}}"
    sampled = (f"{SAMPLED}.{{level}}.{{i}}.{{k}}", f"{level}.sampling_layers.{{i}}.layers.{{k}}")
    return (
        NameRule(f"{VIT}.pos_embed", (f"{HF_VIT}.embeddings.position_embeddings",)),
        both(PATCHES, f"{HF_VIT}.embeddings.projection"),
        NameRule(
            f"{block}.attn.qkv.weight",
            tuple(f"{hf_block}.attention.{one}_proj.weight" for one in "qkv"),
        ),
        NameRule(f"{block}.attn.{{qv}}_bias", (f"{hf_block}.attention.{{qv}}_proj.bias",)),
        both(f"{block}.attn.proj", f"{hf_block}.attention.o_proj"),
        both(f"{block}.norm1", f"{hf_block}.layernorm_before"),
        both(f"{block}.norm2", f"{hf_block}.layernorm_after"),
        both(f"{block}.mlp.fc{{n}}", f"{hf_block}.intermediate.fc{{n}}"),
        NameRule(f"{block}.gamma_{{n}}", (f"{hf_block}.gamma_{{n}}",)),
        both(*sampled),
        *conv_norm(*sampled, ("conv", "bn")),
        *projector_rules(f"{PROJECTOR}.{{level}}", level, "bn"),
        *SHARED,
    )


RULES = _rules()

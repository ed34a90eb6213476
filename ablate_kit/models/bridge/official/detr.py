"""DETR (Carion et al. 2020), as https://github.com/facebookresearch/detr saves it."""

from collections.abc import Collection, Mapping
from typing import Any

from ablate_kit.models.bridge.counterpart import Counterpart, image_processor
from ablate_kit.models.bridge.detr_config import Stack, detr_config
from ablate_kit.models.bridge.name_rules import NameRule, both, packed
from ablate_kit.models.bridge.official.made_of_it import check_made_of_it
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.models.bridge.resnet import resnet_counters, resnet_rules

RESNET = "backbone.0.body"
ENCODER, DECODER = "transformer.encoder.layers", "transformer.decoder.layers"
SIZE = {"shortest_edge": 800, "longest_edge": 1333}


def layer_rules(stack: str, attentions: Collection[str]) -> tuple[NameRule, ...]:
    """Norms and feed-forward layers of ``encoder`` or ``decoder``; norms come in the order of
    ``attentions``, Hugging Face's names, and the feed-forward network's after them."""
    source, target = f"transformer.{stack}.layers.{{layer}}", f"model.{stack}.layers.{{layer}}"
    norms = [*(f"{name}_layer_norm" for name in attentions), "final_layer_norm"]
    return (
        both(f"{source}.linear1", f"{target}.fc1"),
        both(f"{source}.linear2", f"{target}.fc2"),
        *(both(f"{source}.norm{i}", f"{target}.{name}") for i, name in enumerate(norms, start=1)),
    )


SHARED = (
    *resnet_rules(RESNET),
    both("input_proj", "model.input_projection"),
    NameRule("query_embed.weight", ("model.query_position_embeddings.weight",)),
    *layer_rules("encoder", ("self_attn",)),
    *layer_rules("decoder", ("self_attn", "encoder_attn")),
    *packed(f"{ENCODER}.{{layer}}.self_attn", "model.encoder.layers.{layer}.self_attn"),
    both("transformer.decoder.norm", "model.decoder.layernorm"),
    both("class_embed", "class_labels_classifier"),
    both("bbox_embed.layers.{n}", "bbox_predictor.layers.{n}"),
)
"""What descendants with one level have in common."""
RULES = (
    *SHARED,
    *packed(f"{DECODER}.{{layer}}.self_attn", "model.decoder.layers.{layer}.self_attn"),
    *packed(f"{DECODER}.{{layer}}.multihead_attn", "model.decoder.layers.{layer}.encoder_attn"),
)


SIGNS = {
    f"{DECODER}.0.multihead_attn.in_proj_weight",
    f"{RESNET}.conv1.weight",
    "query_embed.weight",
    "class_embed.weight",
    "bbox_embed.layers.0.weight",
}


def counterpart(told: Told) -> Counterpart:
    return of_one_level(told, "Detr", "detr", RULES, none=1)  # the last output is "no object"


def of_one_level(
    told: Told, model: str, kind: str, rules: tuple[NameRule, ...], none: int = 0
) -> Counterpart:
    """Of a model with tables of queries; ``none``: outputs that are of no class."""
    queries, width = told.shape("query_embed.weight")
    encoder, decoder = stacks(told, width)
    backbone = told.resnet(RESNET, (3,))
    classes = told.classes(told.rows("class_embed.weight") - none)
    config = detr_config(model, kind, backbone, width, queries, encoder, decoder, classes)
    return of_detr_kind(told, config, model, rules)


def of_detr_kind(
    told: Told, config: Mapping[str, Any], processor: str, rules: tuple[NameRule, ...]
) -> Counterpart:
    """With images and backbone as all descendants of this code have them."""
    check_made_of_it(told)
    images = image_processor(f"{processor}ImageProcessor", SIZE)
    return told.counterpart(config, images, rules, resnet_counters(RESNET))


def stacks(told: Told, width: int) -> tuple[Stack, Stack]:
    """Encoder and decoder, of ``width`` channels."""
    heads = told.heads("nheads", width)
    told.must("dilation", False, words="no dilation in the backbone")
    told.must("pre_norm", False, words="norms after each branch")
    encoder, decoder = (
        Stack(told.count(one), heads, told.rows(f"{one}.0.linear1.weight"), None)
        for one in (ENCODER, DECODER)
    )
    return encoder, decoder

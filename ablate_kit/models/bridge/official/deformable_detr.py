"""Deformable DETR (Zhu et al. 2021), as https://github.com/fundamentalvision/Deformable-DETR saves
it: with and without box refinement and two stages, of one level or several."""

import math
from collections.abc import Sequence

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.detr_config import DEFORMABLE_DETR, Stack, detr_config
from ablate_kit.models.bridge.name_rules import NameRule, both, deformable, packed
from ablate_kit.models.bridge.official.detr import (
    DECODER,
    ENCODER,
    RESNET,
    layer_rules,
    of_detr_kind,
)
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.models.bridge.resnet import resnet_rules

SAMPLED = (
    f"{ENCODER}.0.self_attn.attention_weights.weight",
    f"{DECODER}.0.cross_attn.attention_weights.weight",
)
SIGNS = {
    *SAMPLED,
    f"{RESNET}.conv1.weight",
    "class_embed.0.weight",
    "bbox_embed.0.layers.0.weight",
    "input_proj.0.0.weight",
}


def counterpart(told: Told) -> Counterpart:
    two_stage = "transformer.enc_output.weight" in told
    # In the decoder lie the heads of each layer, where each layer has its own.
    refine = "transformer.decoder.bbox_embed.0.layers.0.weight" in told
    if two_stage and not refine:
        raise UserError("two stages without box refinement have no counterpart in transformers")
    levels, width = told.count("input_proj"), told.rows("input_proj.0.0.weight", 4)
    heads = told.heads("nheads", width)
    told.must("dilation", False, words="no dilation in the backbone")
    told.must("position_embedding_scale", 2 * math.pi, words="position encodings scaled by 2 pi")
    encoder, decoder = stacks(told, heads, levels)
    # Of several levels, three are the backbone's, which takes the last alone for a single one.
    backbone = told.resnet(RESNET, (1, 2, 3) if levels > 1 else (3,))
    queries = (
        told.number("num_queries", 300, "queries") if two_stage else told.rows("query_embed.weight")
    )
    classes = told.classes(told.rows("class_embed.0.weight"))
    config = detr_config(
        *DEFORMABLE_DETR, backbone, width, queries, encoder, decoder, classes, levels,
        with_box_refine=refine,
        two_stage=two_stage,
        two_stage_num_proposals=queries,
    )  # fmt: skip
    rules = _rules(refine=refine, two_stage=two_stage)
    return of_detr_kind(told, config, "DeformableDetr", rules)


def stacks(
    told: Told, heads: int, levels: int, sampled: Sequence[str] = SAMPLED, hidden: str = "linear1"
) -> list[Stack]:
    """Encoder and decoder, which look at so many levels. ``sampled`` are the weights that tell how
    many points each samples, ``hidden`` is the first layer of the feed-forward branches."""
    return [
        Stack(
            told.count(one),
            heads,
            told.rows(f"{one}.0.{hidden}.weight"),
            told.rows(weights) // (heads * levels),
        )
        for one, weights in zip((ENCODER, DECODER), sampled, strict=True)
    ]


SHARED = (
    NameRule("input_proj.{n}.{i}.{p}", ("model.input_proj.{n}.{i}.{p}",)),
    NameRule("transformer.level_embed", ("model.level_embed",)),
    *layer_rules("encoder", ("self_attn",)),
    *layer_rules("decoder", ("encoder_attn", "self_attn")),
    *deformable(f"{ENCODER}.{{layer}}.self_attn", "model.encoder.layers.{layer}.self_attn"),
    *packed(f"{DECODER}.{{layer}}.self_attn", "model.decoder.layers.{layer}.self_attn"),
    *deformable(f"{DECODER}.{{layer}}.cross_attn", "model.decoder.layers.{layer}.encoder_attn"),
    *(both(f"transformer.{name}", f"model.{name}") for name in ("enc_output", "enc_output_norm")),
)
"""What DINO has, too."""


def head_rules(classes: str, boxes: str, layer: str = "{n}") -> tuple[NameRule, ...]:
    """The heads of a layer, which the decoder holds once more."""
    names = {
        f"class_embed.{layer}": classes,
        f"bbox_embed.{layer}.layers.{{i}}": f"{boxes}.layers.{{i}}",
    }
    return tuple(
        NameRule(f"{place}{source}.{{p}}", (f"{target}.{{p}}",), tied=True)
        for place in ("transformer.decoder.", "")
        for source, target in names.items()
    )


def _rules(*, refine: bool, two_stage: bool) -> tuple[NameRule, ...]:
    classes = "model.decoder.class_embed" if two_stage else "class_embed"
    boxes = "model.decoder.bbox_embed" if refine else "bbox_embed"
    n = "{n}" if refine else "0"  # without refinement all layers share one head
    return (
        *resnet_rules(RESNET),
        *SHARED,
        NameRule("query_embed.weight", ("model.query_position_embeddings.weight",)),
        *(
            both(f"transformer.{name}", f"model.{name}")
            for name in ("reference_points", "pos_trans", "pos_trans_norm")
        ),
        *head_rules(f"{classes}.{n}", f"{boxes}.{n}"),
    )

"""DINO on ResNet or Swin, as https://github.com/IDEA-Research/detrex saves it: backbones are those
of Detectron2, and layers have the names of MMCV's."""

from collections.abc import Sequence
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart, image_processor
from ablate_kit.models.bridge.detr_config import Stack
from ablate_kit.models.bridge.dino_config import dino_config
from ablate_kit.models.bridge.mmcv_layers import dino_rules
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official.coco_names import COCO_IN_ORDER
from ablate_kit.models.bridge.official.detr import DECODER, ENCODER, SIZE
from ablate_kit.models.bridge.official.dino import swin_at
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.models.bridge.resnet import detectron2_resnet_rules, resnet_config
from ablate_kit.models.bridge.swin import INDEX, swin_rules

BACKBONE = "backbone"
STEM = f"{BACKBONE}.stem.conv1"
PATCHES = f"{BACKBONE}.patch_embed.proj.weight"
CONTENTS = "transformer.tgt_embed.weight"
WEIGHTS = "{}.0.attentions.{}.attention_weights.weight"
SIGNS = {
    WEIGHTS.format(ENCODER, 0),
    WEIGHTS.format(DECODER, 1),
    "transformer.enc_output.weight",
    "transformer.level_embeds",
    "transformer.decoder.ref_point_head.layers.0.weight",
    "transformer.decoder.norm.weight",
    "neck.convs.0.conv.weight",
    "class_embed.0.weight",
    "bbox_embed.0.layers.0.weight",
}


def counterpart(told: Told) -> Counterpart:
    handed_on = told.count("neck.convs")
    stages = range(4 - handed_on, 4)
    if f"{STEM}.weight" in told:
        backbone, of_backbone = _resnet(told, stages), detectron2_resnet_rules(BACKBONE)
        told.assumed.append("strides in the convolutions of 3 by 3 (stride_in_1x1: False)")
    elif PATCHES in told:
        backbone, of_backbone = swin_at(told, BACKBONE, stages), swin_rules(BACKBONE)
    else:
        raise UserError(
            f"{told.checkpoint} is a DINO of detrex whose backbone is no ResNet and no Swin of "
            "Detectron2, which has no counterpart; its own code runs with --model "
            "python:FILE.py:NAME"
        )
    levels = handed_on + told.count("neck.extra_convs")
    width = told.rows("neck.convs.0.conv.weight", 4)
    heads = told.heads("num_heads", width)
    encoder, decoder = (
        Stack(
            told.count(one),
            heads,
            told.rows(f"{one}.0.ffns.0.layers.0.0.weight"),
            told.rows(WEIGHTS.format(one, i)) // (heads * levels),
        )
        for i, one in enumerate((ENCODER, DECODER))
    )
    told.assumed.append("positions of temperature 10000 and offset -0.5")
    learned = CONTENTS in told
    queries = told.rows(CONTENTS) if learned else told.number("num_queries", 900, "queries")
    config = dino_config(
        backbone,
        width,
        queries,
        encoder,
        decoder,
        told.classes(told.rows("class_embed.0.weight"), coco=COCO_IN_ORDER),
        levels=levels,
        learned_contents=learned,
        share_class_embed=False,
        share_bbox_embed=False,
        position_temperature_height=10000,
        position_temperature_width=10000,
        position_offset=-0.5,
    )
    images = image_processor("DeformableDetrImageProcessor", SIZE)
    dropped = (
        "label_enc.weight",  # of the queries for denoising
        f"{BACKBONE}.layers.{{stage}}.blocks.{{block}}.attn.{INDEX}",
        "{any}.num_batches_tracked",
    )
    rules = (*of_backbone, *_rules(handed_on, decoder.layers))
    return told.counterpart(config, images, rules, dropped)


def _rules(handed_on: int, layers: int) -> tuple[NameRule, ...]:
    """``handed_on`` by the backbone, to which the neck adds levels; ``layers`` of the decoder,
    whose heads come before that of proposals, and which holds all of them once more."""
    heads = [(f"{n}", "", f".{n}") for n in range(layers)] + [(f"{layers}", "enc_", "")]
    neck = (("neck.convs.{n}", "{n}"), ("neck.extra_convs.{n}", f"{{n+{handed_on}}}"))
    return (
        *(
            both(f"{source}.{name}", f"model.input_proj.{n}.{i}")
            for source, n in neck
            for i, name in enumerate(("conv", "norm"))
        ),
        *dino_rules("transformer"),
        NameRule(CONTENTS, ("model.query_contents.weight",)),
        both(
            "transformer.decoder.ref_point_head.layers.{n}",
            "model.decoder.ref_point_head.layers.{n}",
        ),
        *(
            rule
            for place in ("transformer.decoder.", "")
            for n, before, after in heads
            for rule in (
                NameRule(
                    f"{place}class_embed.{n}.{{p}}",
                    (f"{before}class_embed{after}.{{p}}",),
                    tied=True,
                ),
                NameRule(
                    f"{place}bbox_embed.{n}.layers.{{i}}.{{p}}",
                    (f"{before}bbox_embed{after}.layers.{{i}}.{{p}}",),
                    tied=True,
                ),
            )
        ),
    )


def _resnet(told: Told, stages: Sequence[int]) -> dict[str, Any]:
    first = f"{BACKBONE}.res2.0"
    bottleneck = f"{first}.conv3.weight" in told
    base = told.rows(f"{first}.conv1.weight", 4)
    last = "conv3" if bottleneck else "conv2"
    wide = told.rows(f"{first}.{last}.weight", 4) != base * (4 if bottleneck else 1)
    if wide or told.shape(f"{first}.conv2.weight", 4)[1] != base:
        raise UserError(
            f"{told.checkpoint}: {BACKBONE} is a wide ResNet or a ResNeXt, which transformers lacks"
        )
    return resnet_config(
        "bottleneck" if bottleneck else "basic",
        [told.count(f"{BACKBONE}.res{stage}") for stage in range(2, 6)],
        base=base,
        stem=told.rows(f"{STEM}.weight", 4),
        stages=stages,
    )

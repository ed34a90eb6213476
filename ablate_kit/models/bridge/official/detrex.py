"""DINO on ResNet or Swin, as https://github.com/IDEA-Research/detrex saves it: backbones are those
of Detectron2, and layers have the names of MMCV's."""

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart, image_processor
from ablate_kit.models.bridge.detr_config import DINO, detr_config
from ablate_kit.models.bridge.mmcv_layers import dino_rules
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official.deformable_detr import head_rules, stacks
from ablate_kit.models.bridge.official.detr import DECODER, ENCODER, SIZE
from ablate_kit.models.bridge.official.dino import swin_at
from ablate_kit.models.bridge.official.told_by_file import COCO_IN_ORDER, Told
from ablate_kit.models.bridge.resnet import detectron2_resnet_rules
from ablate_kit.models.bridge.swin import INDEX, swin_rules

BACKBONE = "backbone"
STEM = f"{BACKBONE}.stem.conv1"
PATCHES = f"{BACKBONE}.patch_embed.proj.weight"
CONTENTS = "transformer.tgt_embed.weight"
SAMPLED = (
    f"{ENCODER}.0.attentions.0.attention_weights.weight",
    f"{DECODER}.0.attentions.1.attention_weights.weight",
)
SIGNS = {
    *SAMPLED,
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
        backbone = told.resnet(BACKBONE, stages, stem="stem.conv1", first="res2")
        of_backbone = detectron2_resnet_rules(BACKBONE)
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
    encoder, decoder = stacks(told, heads, levels, SAMPLED, "ffns.0.layers.0.0")
    told.assumed.append("positions of temperature 10000 and offset -0.5")
    learned = CONTENTS in told
    queries = told.rows(CONTENTS) if learned else told.number("num_queries", 900, "queries")
    classes = told.classes(told.rows("class_embed.0.weight"), coco=COCO_IN_ORDER)
    config = detr_config(
        *DINO, backbone, width, queries, encoder, decoder, classes, levels,
        learned_contents=learned,
        share_class_embed=False,
        share_bbox_embed=False,
        position_temperature_height=10000,
        position_temperature_width=10000,
        position_offset=-0.5,
    )  # fmt: skip
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
            for n, before, after in heads
            for rule in head_rules(f"{before}class_embed{after}", f"{before}bbox_embed{after}", n)
        ),
    )

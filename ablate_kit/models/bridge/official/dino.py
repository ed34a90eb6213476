"""DINO (Zhang et al. 2023) on ResNet or Swin, as https://github.com/IDEA-Research/DINO saves it."""

from collections.abc import Sequence
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart, image_processor
from ablate_kit.models.bridge.detr_config import DINO, detr_config
from ablate_kit.models.bridge.name_rules import NameRule, both
from ablate_kit.models.bridge.official import deformable_detr
from ablate_kit.models.bridge.official.detr import RESNET, SIZE
from ablate_kit.models.bridge.official.made_of_it import check_made_of_it
from ablate_kit.models.bridge.official.told_by_file import Told
from ablate_kit.models.bridge.resnet import resnet_counters, resnet_rules
from ablate_kit.models.bridge.swin import INDEX, swin_config, swin_rules, window_of

TEMPERATURE = 20  # of the position encodings
CONTENTS = "transformer.tgt_embed.weight"
DROPPED = ("label_enc.weight",)  # of the queries for denoising
ASSUMED = (
    # An argument, what alone has a counterpart, and what is assumed where the file does not tell.
    ("dilation", False, "no dilation in the backbone"),
    ("pre_norm", False, "norms after each branch"),
    ("transformer_activation", "relu", "ReLU in the feed-forward layers"),
    ("decoder_module_seq", ["sa", "ca", "ffn"], "self-attention first in decoder layers"),
    ("nms_iou_threshold", -1, "no suppression of overlapping boxes"),
)


STEM = f"{RESNET}.conv1.weight"
SWIN = "backbone.0"
PATCHES = f"{SWIN}.patch_embed.proj.weight"
BIASES = "attn.relative_position_bias_table"
SIGNS = {  # of any backbone, so that it can be told which are carried over
    "transformer.decoder.ref_point_head.layers.0.weight",
    "transformer.enc_out_class_embed.weight",
    *(deformable_detr.SIGNS - {STEM}),
}


def counterpart(told: Told) -> Counterpart:
    if STEM in told:
        backbone = told.resnet(RESNET, _stages(told))
        of_backbone, dropped = resnet_rules(RESNET), resnet_counters(RESNET)
    elif PATCHES in told:
        backbone, of_backbone = swin_at(told, SWIN, _stages(told)), swin_rules(SWIN)
        dropped = (f"{SWIN}.layers.{{stage}}.blocks.{{block}}.attn.{INDEX}",)
    else:
        raise UserError(
            f"{told.checkpoint} is a DINO whose backbone is no ResNet and no Swin, which has no "
            "counterpart; its own code runs with --model python:FILE.py:NAME"
        )
    if "transformer.two_stage_wh_embedding.weight" in told:
        raise UserError("learned sizes of proposals (two_stage_learn_wh) have no counterpart")
    width = told.rows("input_proj.0.0.weight", 4)
    levels, heads = told.count("input_proj"), told.heads("nheads", width)
    for argument, value, words in ASSUMED:
        told.must(argument, value, words=words)
    check_made_of_it(told)
    told.must("position_embedding", "sine", "v2", words="sines as position encodings")
    encoder, decoder = deformable_detr.stacks(told, heads, levels)
    share: dict[str, Any] = {
        f"share_{name}": _alike(told, name) for name in ("class_embed", "bbox_embed")
    }
    learned = CONTENTS in told
    queries = told.rows(CONTENTS) if learned else told.number("num_queries", 900, "queries")
    classes = told.classes(told.rows("class_embed.0.weight"))
    height = told.number("pe_temperatureH", TEMPERATURE, "as temperature of rows")
    config = detr_config(
        *DINO, backbone, width, queries, encoder, decoder, classes, levels,
        learned_contents=learned,
        position_temperature_height=height,
        position_temperature_width=told.number(
            "pe_temperatureW", TEMPERATURE, "as that of columns"
        ),
        **share,
    )  # fmt: skip
    images = image_processor("DeformableDetrImageProcessor", SIZE)
    rules = (*of_backbone, *_rules(**share))
    return told.counterpart(config, images, rules, (*DROPPED, *dropped))


def _rules(*, share_class_embed: bool, share_bbox_embed: bool) -> tuple[NameRule, ...]:
    classes, boxes = ("0" if one else "{n}" for one in (share_class_embed, share_bbox_embed))
    return (
        *deformable_detr.SHARED,
        NameRule(CONTENTS, ("model.query_contents.weight",)),
        both(
            "transformer.decoder.ref_point_head.layers.{n}",
            "model.decoder.ref_point_head.layers.{n}",
        ),
        both("transformer.decoder.norm", "model.decoder.layernorm"),
        both("transformer.enc_out_class_embed", "enc_class_embed"),
        both("transformer.enc_out_bbox_embed.layers.{n}", "enc_bbox_embed.layers.{n}"),
        *deformable_detr.head_rules(f"class_embed.{classes}", f"bbox_embed.{boxes}"),
    )


def swin_at(told: Told, place: str, stages: Sequence[int]) -> dict[str, Any]:
    """That of the original repository at ``place``; ``stages`` are handed on."""
    patches = f"{place}.patch_embed.proj.weight"
    width, _, patch, _ = told.shape(patches, 4)
    rows, _ = told.shape(f"{place}.layers.0.blocks.0.{BIASES}")
    window = window_of(rows)
    if window is None:
        raise UserError(
            f"{told.checkpoint}: {place} has {rows} relative positions; expected the square of an "
            "odd number, for windows that are square"
        )
    if 0 in (width, patch):
        raise UserError(f'"{patches}" is of shape {told.shape(patches, 4)}, and empty')
    layers = range(told.count(f"{place}.layers"))
    return swin_config(
        width,
        [told.count(f"{place}.layers.{stage}.blocks") for stage in layers],
        [told.shape(f"{place}.layers.{stage}.blocks.0.{BIASES}")[1] for stage in layers],
        window=window,
        patch=patch,
        mlp_ratio=told.rows(f"{place}.layers.0.blocks.0.mlp.fc1.weight") / width,
        stages=stages,
    )


def _alike(told: Told, heads: str) -> bool:
    """Whether all layers have the same head, which the file holds for each."""
    import torch  # by which no command that needs none waits

    names = [name for name in told.checkpoint.tensors if name.startswith(f"{heads}.0.")]
    others = range(1, told.count(heads))
    return all(
        torch.equal(
            told.checkpoint.read(name), told.checkpoint.read(name.replace(".0.", f".{i}.", 1))
        )
        for name in names
        for i in others
    )


def _stages(told: Told) -> tuple[int, ...]:
    """Of the backbone that are handed on: as many as projections of one pixel, the last ones."""
    count = sum(
        told.shape(f"input_proj.{i}.0.weight", 4)[2] == 1 for i in range(told.count("input_proj"))
    )
    return tuple(range(4 - count, 4))

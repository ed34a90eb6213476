"""From MMDetection's configuration of a model to Hugging Face's.

Only what computes the same function passes. Every setting is looked at: one that has no exact
counterpart is refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.detr_config import DEFORMABLE_DETR, DINO, Stack, detr_config
from ablate_kit.models.bridge.mmdetection.co_dino import co_dino
from ablate_kit.models.bridge.mmdetection.image_pipeline import Colors, processor
from ablate_kit.models.bridge.mmdetection.mmdet_names import (
    CONDITIONAL_DETR,
    DAB_DETR,
    DETR,
    DROPPED,
    deformable_detr,
    dino,
)
from ablate_kit.models.bridge.mmdetection.mmdet_parts import (
    ATTENTIONS,
    PRELU,
    RELUS,
    backbone_of,
    check_detections,
    check_head,
    neck_of,
    position_of,
    stack_of,
)
from ablate_kit.models.bridge.mmdetection.mmdet_settings import Settings


def _detr(model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]) -> Counterpart:
    queries, width, backbone = _one_level(model)
    encoder = stack_of(model.section("encoder"), width, ("self_attn",))
    decoder = stack_of(model.section("decoder"), width, ATTENTIONS, post_norm=True)
    position_of(model.section("positional_encoding"), width, 0.0, temperature=10000)
    check_head(model.section("bbox_head"), "DETRHead", width, len(classes), sigmoid=False)
    check_detections(model.section("test_cfg", {}), queries)
    config = detr_config("Detr", "detr", backbone, width, queries, encoder, decoder, classes)
    return Counterpart(config, images, DETR, DROPPED)


def _conditional_detr(
    model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]
) -> Counterpart:
    queries, width, backbone = _one_level(model)
    encoder = stack_of(model.section("encoder"), width, ("self_attn",))
    decoder = stack_of(
        model.section("decoder"), width, ATTENTIONS, post_norm=True, query_pos=(False,)
    )
    position_of(model.section("positional_encoding"), width, 0.0, temperature=10000)
    check_head(model.section("bbox_head"), "ConditionalDETRHead", width, len(classes), sigmoid=True)
    check_detections(model.section("test_cfg", {}), 100)
    kind = ("ConditionalDetr", "conditional_detr")
    config = detr_config(*kind, backbone, width, queries, encoder, decoder, classes)
    return Counterpart(config, images, CONDITIONAL_DETR, DROPPED)


def _dab_detr(model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]) -> Counterpart:
    queries, width, backbone = _one_level(model)
    model.ignore("with_random_refpoints")
    patterns = model.count("num_patterns", 0, least=0)
    decoding = model.section("decoder")
    decoding.must("query_dim", 4, default=4)
    decoding.must("query_scale_type", "cond_elewise", default="cond_elewise")
    decoding.must("with_modulated_hw_attn", True, default=True)
    known = (*RELUS, PRELU)
    encoder = stack_of(model.section("encoder"), width, ("self_attn",), activations=known)
    decoder = stack_of(
        decoding, width, ATTENTIONS, post_norm=True, query_pos=(False, True), activations=known
    )
    if encoder.activation != decoder.activation:
        raise UserError(
            f"model.encoder has {encoder.activation} and model.decoder {decoder.activation} in the "
            "feed-forward layers; transformers has one for both"
        )
    _, temperature = position_of(model.section("positional_encoding"), width, 0.0)
    check_head(model.section("bbox_head"), "DABDETRHead", width, len(classes), sigmoid=True)
    check_detections(model.section("test_cfg", {}), 100)
    config = detr_config(
        "DabDetr", "dab-detr", backbone, width, queries, encoder, decoder, classes,
        hidden_size=width,
        activation_function=decoder.activation,
        temperature_height=temperature,
        temperature_width=temperature,
        keep_query_pos=decoder.keep_query_pos,
        num_patterns=patterns,
    )  # fmt: skip
    return Counterpart(config, images, DAB_DETR, DROPPED)


def _one_level(model: Settings) -> tuple[int, int, dict[str, Any]]:
    """Queries, channels and backbone of a detector that sees one map."""
    queries = model.count("num_queries", 100)
    levels, backbone = backbone_of(model.section("backbone"))
    width, outputs = neck_of(model.section("neck"), norm=None)
    if levels != 1 or outputs != 1:
        raise UserError(f"model.neck has {levels} inputs and {outputs} outputs; DETR has one")
    return queries, width, backbone


@dataclass(frozen=True)
class _Deformable:
    """What detectors with deformable attention over several levels have in common.

    Attributes:
        of_backbone: levels that are the backbone's.
        levels: all of them.
    """

    of_backbone: int
    levels: int
    width: int
    backbone: Mapping[str, Any]
    encoder: Stack
    decoder: Stack

    @staticmethod
    def of(model: Settings, backbones: Sequence[str] = ("ResNet",)) -> "_Deformable":
        of_backbone, backbone = backbone_of(model.section("backbone"), backbones)
        width, levels = neck_of(model.section("neck"), norm={"type": "GN", "num_groups": 32})
        model.must("num_feature_levels", levels, default=4)
        encoder, decoder = (
            stack_of(model.section(name), width, attentions, levels=levels)
            for name, attentions in (("encoder", ("self_attn",)), ("decoder", ATTENTIONS))
        )
        return _Deformable(of_backbone, levels, width, backbone, encoder, decoder)

    @property
    def biases(self) -> dict[str, int]:
        """Of the projections, which have none beside a norm."""
        return {f"model.input_proj.{i}.0.bias": self.width for i in range(self.levels)}


def _deformable_detr(
    model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]
) -> Counterpart:
    queries = model.count("num_queries", 100)
    refine = model.must("with_box_refine", True, False, default=False)
    two_stage = model.must("as_two_stage", True, False, default=False)
    if two_stage and not refine:
        raise model.refused("with_box_refine", refine, (True,))
    parts = _Deformable.of(model)
    position_of(model.section("positional_encoding"), parts.width, -0.5, temperature=10000)
    check_head(
        model.section("bbox_head"), "DeformableDETRHead", parts.width, len(classes), sigmoid=True
    )
    check_detections(model.section("test_cfg", {}), 100)
    config = detr_config(
        *DEFORMABLE_DETR,
        parts.backbone, parts.width, queries, parts.encoder, parts.decoder, classes, parts.levels,
        with_box_refine=refine,
        two_stage=two_stage,
        two_stage_num_proposals=queries,
    )  # fmt: skip
    rules = deformable_detr(parts.of_backbone, box_refine=refine, two_stage=two_stage)
    return Counterpart(config, images, rules, DROPPED, parts.biases)


def _dino(model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]) -> Counterpart:
    queries = model.count("num_queries", 100)
    for key in ("with_box_refine", "as_two_stage"):
        model.must(key, True, default=False)
    model.ignore("dn_cfg")
    parts = _Deformable.of(model, ("ResNet", "SwinTransformer"))
    place = model.section("positional_encoding")
    offset, temperature = position_of(place, parts.width, 0.0, -0.5)
    check_head(model.section("bbox_head"), "DINOHead", parts.width, len(classes), sigmoid=True)
    check_detections(model.section("test_cfg", {}), 100)
    config = detr_config(
        *DINO, parts.backbone, parts.width, queries, parts.encoder, parts.decoder, classes,
        parts.levels,
        share_class_embed=False,
        share_bbox_embed=False,
        position_temperature_height=temperature,
        position_temperature_width=temperature,
        position_offset=offset,
        box_eps=1e-5,
    )  # fmt: skip
    swin = parts.backbone["model_type"] == "swin"
    rules = dino(parts.of_backbone, parts.decoder.layers, swin=swin)
    return Counterpart(config, images, rules, DROPPED, parts.biases)


# What reads the configuration of each kind, and its image processor.
MODELS = {
    "DETR": (_detr, "DetrImageProcessor"),
    "ConditionalDETR": (_conditional_detr, "ConditionalDetrImageProcessor"),
    "DABDETR": (_dab_detr, "ConditionalDetrImageProcessor"),
    "DeformableDETR": (_deformable_detr, "DeformableDetrImageProcessor"),
    "DINO": (_dino, "DeformableDetrImageProcessor"),
    "CoDETR": (co_dino, "DeformableDetrImageProcessor"),
}


def kind_of(model: Mapping[str, Any]) -> str:
    """Raises ``UserError`` for one that is not carried over."""
    kind = str(model.get("type")).rpartition(".")[2]
    if kind not in MODELS:
        raise UserError(
            f"cannot carry a {kind} over to transformers; expected {' or '.join(MODELS)} "
            "(MMDetection itself runs all others: docs/mmdetection.md)"
        )
    return kind


def architecture(
    model: Mapping[str, Any], pipeline: Sequence[Any], classes: tuple[str, ...]
) -> tuple[Counterpart, Colors]:
    """The counterpart, and the colors' mean and deviation that ``model`` says.

    Args:
        model: the section of that name.
        pipeline: the steps that test images go through.

    Raises ``UserError`` for a model that has no exact counterpart, naming the setting.
    """
    kind = kind_of(model)
    settings = Settings(model, "model")
    settings.ignore("type", "train_cfg", "init_cfg")
    make, images = MODELS[kind]
    colors = _colors(settings.section("data_preprocessor"))
    built = make(settings, processor(pipeline, images, colors), classes)
    settings.close()
    return built, colors


def _colors(settings: Settings) -> Colors:
    settings.kind("DetDataPreprocessor")
    settings.must("bgr_to_rgb", True, default=False)
    settings.must("pad_size_divisor", 1, default=1)
    mean, std = settings.take("mean"), settings.take("std")
    settings.ignore("pad_mask", "pad_value", "mask_pad_value", "batch_augments", "pad_seg")
    settings.close()
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list) or len(values) != 3:
            raise UserError(f"{settings.path}.{name} is {values!r}; expected a number per color")
    return Colors(tuple(map(float, mean)), tuple(map(float, std)))

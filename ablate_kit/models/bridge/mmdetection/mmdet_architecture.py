"""From MMDetection's configuration of a model to Hugging Face's.

Only what computes the same function passes. Every setting is looked at: one that has no exact
counterpart is refused by name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.detr_config import Stack, deformable_config, detr_config
from ablate_kit.models.bridge.dino_config import dino_config
from ablate_kit.models.bridge.mmdetection.mmdet_names import (
    CONDITIONAL_DETR,
    DAB_DETR,
    DETR,
    DROPPED,
    deformable_detr,
    dino,
)
from ablate_kit.models.bridge.mmdetection.mmdet_settings import Settings
from ablate_kit.models.bridge.mmdetection.test_pipeline import Colors, processor
from ablate_kit.models.bridge.resnet import resnet_config
from ablate_kit.models.bridge.swin import swin_config

MODELS = {
    "DETR": "DetrImageProcessor",
    "ConditionalDETR": "ConditionalDetrImageProcessor",
    "DABDETR": "ConditionalDetrImageProcessor",
    "DeformableDETR": "DeformableDetrImageProcessor",
    "DINO": "DeformableDetrImageProcessor",
}
DEPTHS = {
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
    101: ("bottleneck", [3, 4, 23, 3]),
    152: ("bottleneck", [3, 8, 36, 3]),
}
RELU = {"type": "ReLU", "inplace": True}
RELUS = (RELU, {"type": "ReLU"})
PRELU = {"type": "PReLU"}
ATTENTIONS = ("self_attn", "cross_attn")


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
    make = {
        "DETR": _detr,
        "ConditionalDETR": _conditional_detr,
        "DABDETR": _dab_detr,
        "DeformableDETR": _deformable_detr,
        "DINO": _dino,
    }[kind]
    colors = _colors(settings.section("data_preprocessor"))
    built = make(settings, processor(pipeline, MODELS[kind], colors), classes)
    settings.close()
    return built, colors


def _detr(model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]) -> Counterpart:
    queries, width, backbone = _one_level(model)
    encoder = _stack(model.section("encoder"), width, ("self_attn",))
    decoder = _stack(model.section("decoder"), width, ATTENTIONS, post_norm=True)
    _position(model.section("positional_encoding"), width, offset=0, temperature=10000)
    _head(model.section("bbox_head"), "DETRHead", width, len(classes), sigmoid=False)
    _detections(model.section("test_cfg", {}), queries)
    config = detr_config("Detr", "detr", backbone, width, queries, encoder, decoder, classes)
    return Counterpart(config, images, DETR, DROPPED)


def _conditional_detr(
    model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]
) -> Counterpart:
    queries, width, backbone = _one_level(model)
    encoder = _stack(model.section("encoder"), width, ("self_attn",))
    decoder = _stack(
        model.section("decoder"), width, ATTENTIONS, post_norm=True, query_pos=(False,)
    )
    _position(model.section("positional_encoding"), width, offset=0, temperature=10000)
    _head(model.section("bbox_head"), "ConditionalDETRHead", width, len(classes), sigmoid=True)
    _detections(model.section("test_cfg", {}), 100)
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
    encoder = _stack(model.section("encoder"), width, ("self_attn",), activations=(*RELUS, PRELU))
    decoder = _stack(
        decoding,
        width,
        ATTENTIONS,
        post_norm=True,
        query_pos=(False, True),
        activations=(*RELUS, PRELU),
    )
    if encoder.activation != decoder.activation:
        raise UserError(
            f"model.encoder has {encoder.activation} and model.decoder {decoder.activation} in the "
            "feed-forward layers; transformers has one for both"
        )
    temperature = _position(model.section("positional_encoding"), width, offset=0)
    _head(model.section("bbox_head"), "DABDETRHead", width, len(classes), sigmoid=True)
    _detections(model.section("test_cfg", {}), 100)
    config = {
        **detr_config("DabDetr", "dab-detr", backbone, width, queries, encoder, decoder, classes),
        "hidden_size": width,
        "activation_function": decoder.activation,
        "temperature_height": temperature,
        "temperature_width": temperature,
        "keep_query_pos": decoder.keep_query_pos,
        "num_patterns": patterns,
    }
    return Counterpart(config, images, DAB_DETR, DROPPED)


def _one_level(model: Settings) -> tuple[int, int, dict[str, Any]]:
    """Queries, channels and backbone of a detector that sees one map."""
    queries = model.count("num_queries", 100)
    levels, backbone = _backbone(model.section("backbone"))
    width, outputs = _neck(model.section("neck"), norm=None)
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
        of_backbone, backbone = _backbone(model.section("backbone"), backbones)
        width, levels = _neck(model.section("neck"), norm={"type": "GN", "num_groups": 32})
        model.must("num_feature_levels", levels, default=4)
        encoder, decoder = (
            _stack(model.section(name), width, attentions, levels=levels)
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
    _position(model.section("positional_encoding"), parts.width, offset=-0.5, temperature=10000)
    _head(model.section("bbox_head"), "DeformableDETRHead", parts.width, len(classes), sigmoid=True)
    _detections(model.section("test_cfg", {}), 100)
    config = deformable_config(
        parts.backbone, parts.width, queries, parts.encoder, parts.decoder, classes,
        levels=parts.levels, refine=refine, two_stage=two_stage,
    )  # fmt: skip
    rules = deformable_detr(parts.of_backbone, box_refine=refine, two_stage=two_stage)
    return Counterpart(config, images, rules, DROPPED, parts.biases)


def _dino(model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]) -> Counterpart:
    queries = model.count("num_queries", 100)
    for key in ("with_box_refine", "as_two_stage"):
        model.must(key, True, default=False)
    model.ignore("dn_cfg")
    parts = _Deformable.of(model, tuple(BACKBONES))
    encoding = model.section("positional_encoding")
    offset = encoding.must("offset", 0.0, -0.5, default=0.0)
    temperature = _position(encoding, parts.width, offset=0)
    _head(model.section("bbox_head"), "DINOHead", parts.width, len(classes), sigmoid=True)
    _detections(model.section("test_cfg", {}), 100)
    config = dino_config(
        parts.backbone, parts.width, queries, parts.encoder, parts.decoder, classes,
        levels=parts.levels,
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


def _backbone(settings: Settings, kinds: Sequence[str] = ("ResNet",)) -> tuple[int, dict[str, Any]]:
    """How many levels it hands on, and its configuration."""
    stages = settings.counts("out_indices", [0, 1, 2, 3], least=0)
    config = BACKBONES[settings.kind(*kinds)](settings, stages)
    settings.close()
    return len(stages), config


def _resnet(settings: Settings, stages: Sequence[int]) -> dict[str, Any]:
    depth = settings.must("depth", *DEPTHS, default=None)
    layer, depths = DEPTHS[depth]
    style = settings.must("style", "pytorch", "caffe", default="pytorch")
    base = settings.count("base_channels", 64)
    stem = settings.take("stem_channels") or base
    settings.must("in_channels", 3, default=3)
    settings.must("num_stages", 4, default=4)
    settings.must("strides", [1, 2, 2, 2], default=[1, 2, 2, 2])
    settings.must("dilations", [1, 1, 1, 1], default=[1, 1, 1, 1])
    for key in ("deep_stem", "avg_down"):
        settings.must(key, False, default=False)
    for key in ("conv_cfg", "dcn", "plugins"):
        settings.must(key, None, default=None)
    norm = settings.section("norm_cfg", {"type": "BN"})
    norm.kind("BN", "SyncBN")
    norm.must("eps", 1e-5, default=1e-5)
    norm.ignore("requires_grad", "momentum")
    norm.close()
    settings.ignore(
        "frozen_stages", "norm_eval", "with_cp", "init_cfg", "pretrained", "zero_init_residual",
        "stage_with_dcn",
    )  # fmt: skip
    return resnet_config(
        layer, depths, base=base, stem=stem, stages=stages, stride_first=style == "caffe"
    )


def _swin(settings: Settings, stages: Sequence[int]) -> dict[str, Any]:
    patch = settings.count("patch_size", 4)
    settings.must("in_channels", 3, default=3)
    settings.must("strides", [patch, 2, 2, 2], default=[4, 2, 2, 2])
    settings.must("act_cfg", {"type": "GELU"}, default={"type": "GELU"})
    for key, value in (("qkv_bias", True), ("patch_norm", True), ("use_abs_pos_embed", False)):
        settings.must(key, value, default=value)
    settings.must("qk_scale", None, default=None)
    norm = settings.section("norm_cfg", {"type": "LN"})
    norm.kind("LN")
    norm.must("eps", 1e-5, default=1e-5)
    norm.ignore("requires_grad")
    norm.close()
    settings.ignore(
        "pretrain_img_size", "drop_rate", "attn_drop_rate", "drop_path_rate", "with_cp",
        "pretrained", "convert_weights", "frozen_stages", "init_cfg",
    )  # fmt: skip
    return swin_config(
        settings.count("embed_dims", 96),
        settings.counts("depths", [2, 2, 6, 2]),
        settings.counts("num_heads", [3, 6, 12, 24]),
        window=settings.count("window_size", 7),
        patch=patch,
        mlp_ratio=settings.count("mlp_ratio", 4),
        stages=stages,
        merge_by_channel=True,
    )


BACKBONES = {"ResNet": _resnet, "SwinTransformer": _swin}


def _neck(settings: Settings, norm: Mapping[str, Any] | None) -> tuple[int, int]:
    settings.kind("ChannelMapper")
    settings.must("kernel_size", 1, default=3)
    settings.must("act_cfg", None, default=RELU)
    given = settings.must("norm_cfg", norm, _requires_grad(norm), default=None)
    settings.must("conv_cfg", None, default=None)
    settings.must("bias", "auto", given is None, default="auto")
    settings.ignore("init_cfg")
    width = settings.count("out_channels")
    inputs = settings.counts("in_channels")
    outputs = settings.take("num_outs") or len(inputs)
    settings.close()
    return width, outputs


def _stack(
    settings: Settings,
    width: int,
    attentions: tuple[str, ...],
    *,
    post_norm: bool = False,
    levels: int | None = None,
    query_pos: Sequence[bool] = (),
    activations: Sequence[Mapping[str, Any]] = RELUS,
) -> Stack:
    """
    Args:
        levels: of the maps that the last attention samples from; None where it does not.
        query_pos: of conditional attention, whether all layers may see queries' own positions.
        activations: that the feed-forward network may have.
    """
    layers = settings.count("num_layers")
    if "cross_attn" in attentions:
        norm = {"type": "LN"}
        allowed = norm if post_norm else None
        settings.must("post_norm_cfg", allowed, default=norm)
    settings.ignore("return_intermediate", "num_cp", "init_cfg")
    layer = settings.section("layer_cfg")
    settings.close()
    heads, points, keep_query_pos = set(), None, False
    for name in attentions:
        attention = layer.section(f"{name}_cfg", {"embed_dims": 256, "num_heads": 8})
        attention.must("embed_dims", width, default=256)
        attention.ignore(
            "dropout", "attn_drop", "proj_drop", "dropout_layer", "init_cfg", "batch_first"
        )
        if levels and name == attentions[-1]:
            heads.add(attention.count("num_heads", 8))
            points = attention.count("num_points", 4)
            attention.must("num_levels", levels, default=4)
            attention.must("value_proj_ratio", 1.0, default=1.0)
            attention.ignore("im2col_step", "norm_cfg")
        else:
            heads.add(attention.count("num_heads"))
        if query_pos:
            across = name == "cross_attn"
            attention.must("cross_attn", across, default=False)
            kept = attention.take("keep_query_pos", False)
            if across and kept not in query_pos:
                raise attention.refused("keep_query_pos", kept, tuple(query_pos))
            keep_query_pos |= across and kept
        attention.close()
    if len(heads) > 1:
        raise UserError(
            f"{layer.path} has attentions of {sorted(heads)} heads; transformers' decoder has one "
            "number for both"
        )
    ffn = layer.section("ffn_cfg", {"embed_dims": 256, "feedforward_channels": 1024})
    ffn.must("embed_dims", width, default=256)
    hidden = ffn.count("feedforward_channels", 1024)
    ffn.must("num_fcs", 2, default=2)
    activation = ffn.must("act_cfg", *activations, default=RELU)["type"].lower()
    ffn.must("add_identity", True, default=True)
    ffn.ignore("ffn_drop", "dropout_layer", "init_cfg")
    ffn.close()
    layer.must("norm_cfg", {"type": "LN"}, default={"type": "LN"})
    layer.ignore("init_cfg")
    layer.close()
    return Stack(layers, heads.pop(), hidden, points, activation, keep_query_pos)


def _position(
    settings: Settings, width: int, *, offset: float, temperature: int | None = None
) -> int:
    """The temperature, which must be ``temperature`` if that is given."""
    settings.kind("SinePositionalEncoding")
    settings.must("num_feats", width // 2, default=None)
    settings.must("normalize", True, default=False)
    settings.must("offset", offset, default=0.0)
    found = settings.count("temperature", 10000)
    if temperature not in (None, found):
        raise settings.refused("temperature", found, (temperature,))
    settings.must("scale", 2 * math.pi, default=2 * math.pi)
    settings.must("eps", 1e-6, default=1e-6)
    settings.ignore("init_cfg")
    settings.close()
    return found


def _head(settings: Settings, kind: str, width: int, classes: int, *, sigmoid: bool) -> None:
    settings.kind(kind)
    if (outputs := settings.count("num_classes")) != classes:
        raise UserError(f"the file names {classes} classes for {outputs} outputs")
    settings.must("embed_dims", width, default=256)
    settings.must("num_reg_fcs", 2, default=2)
    loss = settings.section("loss_cls", {})
    loss.must("use_sigmoid", sigmoid, default=False)
    settings.ignore(
        "loss_bbox", "loss_iou", "sync_cls_avg_factor", "train_cfg", "test_cfg", "init_cfg",
        "share_pred_layer", "num_pred_layer", "as_two_stage",
    )  # fmt: skip
    settings.close()


def _detections(settings: Settings, least: int) -> None:
    """The image processor returns this many per image, or more."""
    count = settings.take("max_per_img", least)
    if count < least:
        raise settings.refused("max_per_img", count, (least,))
    settings.close()


def _requires_grad(norm: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return {**norm, "requires_grad": True} if norm else None

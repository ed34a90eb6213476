"""The parts of a detector in MMDetection's configuration: what they are in Hugging Face's, or that
they compute something else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.detr_config import Stack
from ablate_kit.models.bridge.mmdetection.mmdet_settings import Settings
from ablate_kit.models.bridge.resnet import resnet_config
from ablate_kit.models.bridge.swin import swin_config

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


def backbone_of(
    settings: Settings, kinds: Sequence[str] = ("ResNet",)
) -> tuple[int, dict[str, Any]]:
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


def _original_swin(settings: Settings, stages: Sequence[int]) -> dict[str, Any]:
    """As Co-DETR has it from Swin's own repository."""
    settings.must("in_chans", 3, default=3)
    for key, value in (("qkv_bias", True), ("patch_norm", True), ("ape", False)):
        settings.must(key, value, default=value)
    settings.must("qk_scale", None, default=None)
    settings.ignore(
        "pretrain_img_size", "drop_rate", "attn_drop_rate", "drop_path_rate", "use_checkpoint",
        "pretrained", "frozen_stages", "init_cfg",
    )  # fmt: skip
    return swin_config(
        settings.count("embed_dim", 96),
        settings.counts("depths", [2, 2, 6, 2]),
        settings.counts("num_heads", [3, 6, 12, 24]),
        window=settings.count("window_size", 7),
        patch=settings.count("patch_size", 4),
        mlp_ratio=settings.count("mlp_ratio", 4),
        stages=stages,
    )


BACKBONES = {"ResNet": _resnet, "SwinTransformer": _swin, "SwinTransformerV1": _original_swin}


def neck_of(settings: Settings, norm: Mapping[str, Any] | None) -> tuple[int, int]:
    settings.kind("ChannelMapper")
    settings.must("kernel_size", 1, default=3)
    settings.must("act_cfg", None, default=RELU)
    trained = {**norm, "requires_grad": True} if norm else None
    given = settings.must("norm_cfg", norm, trained, default=None)
    settings.must("conv_cfg", None, default=None)
    settings.must("bias", "auto", given is None, default="auto")
    settings.ignore("init_cfg")
    width = settings.count("out_channels")
    inputs = settings.counts("in_channels")
    outputs = settings.take("num_outs") or len(inputs)
    settings.close()
    return width, outputs


def stack_of(
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


def position_of(
    settings: Settings, width: int, *offsets: float, temperature: int | None = None
) -> tuple[float, int]:
    """The offset, one of ``offsets``, and the temperature, ``temperature`` if that is given."""
    settings.kind("SinePositionalEncoding")
    settings.must("num_feats", width // 2, default=None)
    settings.must("normalize", True, default=False)
    offset = settings.must("offset", *offsets, default=0.0)
    found = settings.count("temperature", 10000)
    if temperature not in (None, found):
        raise settings.refused("temperature", found, (temperature,))
    settings.must("scale", 2 * math.pi, default=2 * math.pi)
    settings.must("eps", 1e-6, default=1e-6)
    settings.ignore("init_cfg")
    settings.close()
    return offset, found


def check_head(settings: Settings, kind: str, width: int, classes: int, *, sigmoid: bool) -> None:
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


def check_detections(settings: Settings, least: int) -> None:
    """The image processor returns this many per image, or more."""
    count = settings.take("max_per_img", least)
    if count < least:
        raise settings.refused("max_per_img", count, (least,))
    settings.close()

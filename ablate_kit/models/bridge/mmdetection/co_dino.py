"""Co-DINO (Zong et al. 2023): DINO whose encoder learns from the heads of other detectors, too,
which evaluation leaves aside. Its configuration says layers as that of MMDetection 2 does."""

from collections.abc import Mapping
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.models.bridge.counterpart import Counterpart
from ablate_kit.models.bridge.detr_config import DINO, Stack, detr_config
from ablate_kit.models.bridge.mmdetection.mmdet_names import (
    DROPPED_OF_CO_DINO,
    ORIGINAL_SWIN,
    RESNET,
    SWIN,
    co_dino_rules,
)
from ablate_kit.models.bridge.mmdetection.mmdet_parts import (
    ATTENTIONS,
    BACKBONES,
    backbone_of,
    neck_of,
    position_of,
    stack_of,
)
from ablate_kit.models.bridge.mmdetection.mmdet_settings import Settings
from ablate_kit.models.frameworks.hugging_face.soft_nms import MOST

GROUPS = {"type": "GN", "num_groups": 32}
LAYER_NORM = {"type": "LN"}
LEAST = 100  # detections of an image, which evaluation counts


def co_dino(model: Settings, images: Mapping[str, Any], classes: tuple[str, ...]) -> Counterpart:
    model.must("use_lsj", False, default=True)  # whether padding counts as image
    model.must("eval_module", "detr", default="detr")
    model.ignore(
        "rpn_head", "roi_head", "bbox_head", "eval_index", "with_pos_coord", "custom_imports",
    )  # fmt: skip
    of_backbone, backbone = backbone_of(model.section("backbone"), tuple(BACKBONES))
    width, levels = neck_of(model.section("neck"), norm=GROUPS)
    head = model.section("query_head")
    head.kind("CoDINOHead")
    head.must("num_classes", len(classes), default=None)
    head.must("num_reg_fcs", 2, default=2)
    head.must("as_two_stage", True, default=False)
    head.must("with_box_refine", True, default=True)
    head.section("loss_cls", {}).must("use_sigmoid", True, default=False)
    queries = head.count("num_query", 900)
    offset, temperature = position_of(head.section("positional_encoding"), width, 0.0, -0.5)
    encoder, decoder = _transformer(head.section("transformer"), width, levels, queries)
    head.ignore(
        "in_channels", "num_feature_levels", "mixed_selection", "sync_cls_avg_factor", "dn_cfg",
        "loss_bbox", "loss_iou",
        "max_pos_coords", "use_zero_padding", "train_cfg", "test_cfg", "init_cfg",
    )  # fmt: skip
    head.close()
    config = detr_config(
        *DINO, backbone, width, queries, encoder, decoder, classes, levels,
        share_class_embed=False,
        share_bbox_embed=False,
        position_temperature_height=temperature,
        position_temperature_width=temperature,
        position_offset=offset,
        **_suppression(model, queries),
    )  # fmt: skip
    own = {None: RESNET, True: SWIN, False: ORIGINAL_SWIN}[backbone.get("merge_by_channel")]
    rules = co_dino_rules(of_backbone, decoder.layers, own)
    biases = {f"model.input_proj.{i}.0.bias": width for i in range(levels)}
    return Counterpart(config, images, rules, DROPPED_OF_CO_DINO, biases)


def _transformer(settings: Settings, width: int, levels: int, queries: int) -> tuple[Stack, Stack]:
    settings.kind("CoDinoTransformer")
    settings.must("num_feature_levels", levels, default=4)
    settings.must("two_stage_num_proposals", queries, default=queries)
    for key in ("as_two_stage", "mixed_selection"):
        settings.must(key, True, default=True)
    settings.ignore("with_pos_coord", "with_coord_feat", "num_co_heads", "init_cfg")
    encoder = settings.section("encoder")
    encoder.kind("DetrTransformerEncoder")
    encoder.ignore("post_norm_cfg")  # of norms before branches
    decoder = settings.section("decoder")
    decoder.kind("DinoTransformerDecoder")
    decoder.must("return_intermediate", True, default=False)
    settings.close()
    return (
        _stack(encoder, "BaseTransformerLayer", ("self_attn",), width, levels),
        _stack(decoder, "DetrTransformerDecoderLayer", ATTENTIONS, width, levels),
    )


def _stack(
    settings: Settings, kind: str, attentions: tuple[str, ...], width: int, levels: int
) -> Stack:
    """Read as MMDetection 3 would say it; the last of ``attentions`` is the deformable one."""
    layers = settings.count("num_layers")
    settings.ignore("with_cp", "init_cfg")
    layer = settings.section("transformerlayers")
    settings.close()
    layer.kind(kind)
    order = [name for one in (*attentions, "ffn") for name in (one, "norm")]
    layer.must("operation_order", order, default=None)
    layer.must("norm_cfg", LAYER_NORM, default=LAYER_NORM)
    layer.must("ffn_num_fcs", 2, default=2)
    layer.must("batch_first", False, default=False)
    layer.ignore("ffn_dropout", "init_cfg")
    hidden = layer.count("feedforward_channels", 1024)
    of_each = layer.take("attn_cfgs")
    layer.close()
    of_each = of_each if isinstance(of_each, list) else [of_each] * len(attentions)
    if len(of_each) != len(attentions):
        raise layer.refused("attn_cfgs", of_each, (f"{len(attentions)} of them",))
    as_of_3: dict[str, Any] = {"ffn_cfg": {"embed_dims": width, "feedforward_channels": hidden}}
    for name, values in zip(attentions, of_each, strict=True):
        one = Settings(values, f"{layer.path}.attn_cfgs")
        deformable = name == attentions[-1]
        one.kind("MultiScaleDeformableAttention" if deformable else "MultiheadAttention")
        as_of_3[f"{name}_cfg"] = {key: values[key] for key in values if key != "type"}
    whole: dict[str, Any] = {"num_layers": layers, "layer_cfg": as_of_3}
    if "cross_attn" in attentions:
        whole["post_norm_cfg"] = None
    return stack_of(Settings(whole, settings.path), width, attentions, levels=levels)


def _suppression(model: Settings, queries: int) -> dict[str, Any]:
    """The settings of ``DinoDetrConfig`` that say what becomes of boxes that overlap."""
    of_heads = model.take("test_cfg")
    if not isinstance(of_heads, list) or not of_heads:
        raise UserError(f"model.test_cfg is {of_heads!r}; expected settings of each head")
    settings = Settings(of_heads[0], "model.test_cfg.0")
    settings.must("score_thr", 0, default=0)
    candidates = settings.count("max_per_img", queries)
    given = settings.take("nms")
    settings.close()
    if given is None and candidates < LEAST:  # where the image processor returns more
        raise settings.refused("max_per_img", candidates, (LEAST,))
    if given is None:
        return {}
    if candidates > MOST:
        raise settings.refused("max_per_img", candidates, (MOST,))
    nms = Settings(given, f"{settings.path}.nms")
    nms.kind("soft_nms", default="nms")
    nms.must("method", "linear", default="linear")
    nms.must("offset", 0, default=0)
    nms.must("class_agnostic", False, default=False)
    nms.ignore("sigma")  # of another method
    found = {
        "soft_nms_candidates": candidates,
        "soft_nms_iou_threshold": nms.number("iou_threshold", 0.3),
        "soft_nms_min_score": nms.number("min_score", 1e-3),
    }
    nms.close()
    return found

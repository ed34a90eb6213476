"""What Hugging Face's configurations of DETR and its descendants have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate_kit.models.bridge.counterpart import detector_config


@dataclass(frozen=True)
class Stack:
    """An encoder or decoder; ``keep_query_pos`` is DAB-DETR's setting of this name."""

    layers: int
    heads: int
    ffn: int
    points: int | None
    activation: str = "relu"
    keep_query_pos: bool = False


def detr_config(
    model: str,
    kind: str,
    backbone: Mapping[str, Any],
    width: int,
    queries: int,
    encoder: Stack,
    decoder: Stack,
    classes: Sequence[str],
) -> dict[str, Any]:
    """``backbone`` is that of the backbone; ``model``, ``kind`` and ``classes`` are those of
    ``detector_config``."""
    return detector_config(model, kind, classes) | {
        "backbone": None,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone_config": backbone,
        "d_model": width,
        "encoder_layers": encoder.layers,
        "encoder_attention_heads": encoder.heads,
        "encoder_ffn_dim": encoder.ffn,
        "decoder_layers": decoder.layers,
        "decoder_attention_heads": decoder.heads,
        "decoder_ffn_dim": decoder.ffn,
        "num_queries": queries,
    }


def deformable_config(
    backbone: Mapping[str, Any],
    width: int,
    queries: int,
    encoder: Stack,
    decoder: Stack,
    classes: Sequence[str],
    *,
    levels: int,
    refine: bool,
    two_stage: bool,
) -> dict[str, Any]:
    """Of Deformable DETR, whose two-stage form proposes as many boxes as it has queries."""
    kind = ("DeformableDetr", "deformable_detr")
    return detr_config(*kind, backbone, width, queries, encoder, decoder, classes) | {
        "num_feature_levels": levels,
        "encoder_n_points": encoder.points,
        "decoder_n_points": decoder.points,
        "with_box_refine": refine,
        "two_stage": two_stage,
        "two_stage_num_proposals": queries,
    }

"""What Hugging Face's configurations of DETR and its descendants have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate_kit.models.architectures.bundled import BUNDLED
from ablate_kit.models.bridge.counterpart import detector_config

DEFORMABLE_DETR, DINO = ("DeformableDetr", "deformable_detr"), ("DinoDetr", "dino_detr")


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
    levels: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """
    Args:
        model: as ``detector_config`` takes it, and so ``kind`` and ``classes``.
        backbone: the configuration of that.
        levels: of the maps that deformable attention samples from; None where there is no such.
        settings: further ones of the model.
    """
    bundled = BUNDLED.get(kind)
    sampled = {
        "num_feature_levels": levels,
        "encoder_n_points": encoder.points,
        "decoder_n_points": decoder.points,
    }
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
        **({"auto_map": bundled.auto_map} if bundled else {}),
        **(sampled if levels else {}),
        **settings,
    }

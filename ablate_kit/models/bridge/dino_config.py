"""The configuration of DINO, an architecture of this project."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablate_kit.models.architectures.bundled import BUNDLED
from ablate_kit.models.bridge.counterpart import detector_config
from ablate_kit.models.bridge.detr_config import Stack

_KIND = "dino_detr"


def dino_config(
    backbone: Mapping[str, Any],
    width: int,
    queries: int,
    encoder: Stack,
    decoder: Stack,
    classes: Sequence[str],
    *,
    levels: int,
    **settings: Any,
) -> dict[str, Any]:
    """``settings`` are further ones of ``DinoDetrConfig``."""
    own = BUNDLED[_KIND]
    return detector_config("DinoDetr", _KIND, classes) | {
        "architectures": [own.model],
        "auto_map": own.auto_map,
        "backbone_config": backbone,
        "d_model": width,
        "num_queries": queries,
        "num_feature_levels": levels,
        "encoder_layers": encoder.layers,
        "encoder_attention_heads": encoder.heads,
        "encoder_ffn_dim": encoder.ffn,
        "encoder_n_points": encoder.points,
        "decoder_layers": decoder.layers,
        "decoder_attention_heads": decoder.heads,
        "decoder_ffn_dim": decoder.ffn,
        "decoder_n_points": decoder.points,
        **settings,
    }

"""The configuration of DINO, an architecture of this project."""

from collections.abc import Mapping, Sequence
from typing import Any

from ablate_kit.models.architectures.bundled import BUNDLED
from ablate_kit.models.bridge.detr_config import Stack, detr_config

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
    return detr_config("DinoDetr", _KIND, backbone, width, queries, encoder, decoder, classes) | {
        "auto_map": BUNDLED[_KIND].auto_map,
        "num_feature_levels": levels,
        "encoder_n_points": encoder.points,
        "decoder_n_points": decoder.points,
        **settings,
    }

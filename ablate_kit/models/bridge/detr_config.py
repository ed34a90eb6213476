"""What Hugging Face's configurations of DETR and its descendants have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate_kit.models.bridge.counterpart import detector_config


@dataclass(frozen=True)
class Stack:
    """An encoder or decoder."""

    layers: int
    heads: int
    ffn: int
    points: int | None


def detr_config(
    model: str,
    kind: str,
    backbone: Mapping[str, Any],
    width: int,
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
    }

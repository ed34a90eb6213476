"""Swin Transformer as detectors' repositories have it, and that of this project."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ablate_kit.models.bridge.name_rules import NameRule, both

_HF = "model.backbone.conv_encoder.model"
_BLOCK = _HF + ".layers.{stage}.blocks.{block}"
_MERGING = _HF + ".layers.{stage}.downsample"
INDEX = "relative_position_index"  # computed from the window's size


def swin_rules(
    source: str,
    *,
    embedding: str = "patch_embed.proj",
    stage: str = "layers.{stage}",
    attention: str = "attn",
    mlp: Sequence[str] = ("mlp.fc1", "mlp.fc2"),
) -> tuple[NameRule, ...]:
    """``source`` is where the network lies in the file, such as ``backbone``; the others are names
    in it, of which those of the original repository are the defaults."""
    block = f"{source}.{stage}.blocks.{{block}}"
    table = "relative_position_bias_table"
    return (
        both(f"{source}.{embedding}", f"{_HF}.patch_embed.proj"),
        both(f"{source}.patch_embed.norm", f"{_HF}.patch_embed.norm"),
        both(f"{block}.norm1", f"{_BLOCK}.norm1"),
        both(f"{block}.norm2", f"{_BLOCK}.norm2"),
        NameRule(f"{block}.{attention}.{table}", (f"{_BLOCK}.attn.{table}",)),
        *(both(f"{block}.{attention}.{name}", f"{_BLOCK}.attn.{name}") for name in ("qkv", "proj")),
        *(both(f"{block}.{name}", f"{_BLOCK}.mlp.fc{i}") for i, name in enumerate(mlp, 1)),
        both(f"{source}.{stage}.downsample.norm", f"{_MERGING}.norm"),
        NameRule(
            f"{source}.{stage}.downsample.reduction.weight", (f"{_MERGING}.reduction.weight",)
        ),
        both(f"{source}.norm{{stage}}", f"{_HF}.norm{{stage}}"),
    )


def swin_config(
    width: int,
    depths: Sequence[int],
    heads: Sequence[int],
    *,
    window: int,
    patch: int,
    mlp_ratio: float,
    stages: Iterable[int],
    merge_by_channel: bool = False,
) -> dict[str, Any]:
    """Hugging Face's configuration, which this project's backbone reads.

    Args:
        width: channels of the first stage.
        depths, heads: blocks of each stage, and heads of their attention.
        stages: those that are handed on, from 0.
        merge_by_channel: how patches are merged (``PatchMerging``).
    """
    return {
        "model_type": "swin",
        "embed_dim": width,
        "depths": list(depths),
        "num_heads": list(heads),
        "window_size": window,
        "patch_size": patch,
        "mlp_ratio": mlp_ratio,
        "out_features": [f"stage{stage + 1}" for stage in stages],
        "merge_by_channel": merge_by_channel,
    }


def window_of(rows: int) -> int | None:
    """The side of the window whose table of relative positions has so many rows; None if none."""
    side = math.isqrt(rows)
    return (side + 1) // 2 if side**2 == rows and side % 2 else None

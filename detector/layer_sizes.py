"""Sizes that the layers of the hybrid detector may have one by one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detector.config import HybridConfig

LAYER_SIZES: dict[str, Callable[["HybridConfig"], tuple[int, int]]] = {
    "neck_blocks": lambda c: (7 * c.neck_repeats, 1),
    "stage3_heads": lambda c: (2 * c.depths[3] * c.attention_depth, c.attention_heads),
    "stage3_hidden": lambda c: (
        2 * c.depths[3] * c.attention_depth,
        int(c.widths[2] * c.mlp_ratio),
    ),
    "encoder_heads": lambda c: (c.encoder_layers, c.heads),
    "encoder_hidden": lambda c: (c.encoder_layers, 2 * c.d_model),
    "decoder_self_heads": lambda c: (c.decoder_layers, c.heads),
    "decoder_cross_heads": lambda c: (c.decoder_layers, c.heads),
    "decoder_hidden": lambda c: (c.decoder_layers, 2 * c.d_model),
}
"""For each size that layers may have of their own: how many layers there are, and its default."""

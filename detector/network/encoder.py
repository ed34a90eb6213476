"""The deformable encoder: pre-norm layers over the tokens of all four levels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.attention import DeformableAttention, GatedFeedForward
from detector.network.layers import DropPath, LayerScale

LAYER_SCALE = 0.4


class EncoderLayer(nn.Module):
    def __init__(self, config: HybridConfig, drop_path: float) -> None:
        super().__init__()
        d = config.d_model
        self.norm1 = nn.LayerNorm(d)
        self.self_attn = DeformableAttention(
            d, config.heads, config.encoder_points, config.deformable_dropout
        )
        self.scale1 = LayerScale(d, LAYER_SCALE)
        self.norm2 = nn.LayerNorm(d)
        self.ffn = GatedFeedForward(d)
        self.scale2 = LayerScale(d, LAYER_SCALE)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        shapes: Sequence[tuple[int, int]],
        reference: Tensor,
    ) -> Tensor:
        query = self.norm1(x)
        attended = self.self_attn(query, position, query, shapes, reference)
        x = x + self.drop_path(self.scale1(attended))
        return x + self.drop_path(self.scale2(self.ffn(self.norm2(x))))


class Encoder(nn.Module):
    """``encoder_layers`` layers; every token's reference is the center of its own cell."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        rates = torch.linspace(0, config.transformer_drop_path, config.encoder_layers).tolist()
        self.layers = nn.ModuleList(EncoderLayer(config, rate) for rate in rates)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        shapes: Sequence[tuple[int, int]],
        reference: Tensor,
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, shapes, reference)
        return x

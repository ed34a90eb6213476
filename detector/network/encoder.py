"""The deformable encoder: pre-norm layers over the tokens of all four levels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.attention import DeformableAttention, GatedFeedForward
from detector.network.layers import DropPath, LayerScale

LAYER_SCALE = 0.4


class EncoderLayer(nn.Module):
    """Layer ``index``; a branch of which the config says that its size is 0 is not there."""

    def __init__(self, config: HybridConfig, drop_path: float, index: int = 0) -> None:
        super().__init__()
        d = config.d_model
        heads = config.layer_sizes("encoder_heads")[index]
        hidden = config.layer_sizes("encoder_hidden")[index]
        self.self_attn = self.ffn = None
        if heads:
            self.norm1 = nn.LayerNorm(d)
            self.self_attn = DeformableAttention(
                d, heads, config.encoder_points, config.deformable_dropout, d // config.heads
            )
            self.scale1 = LayerScale(d, LAYER_SCALE)
        if hidden:
            self.norm2 = nn.LayerNorm(d)
            self.ffn = GatedFeedForward(d, hidden)
            self.scale2 = LayerScale(d, LAYER_SCALE)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, position: Tensor, shapes: Sequence[tuple[int, int]], reference: Tensor
    ) -> Tensor:
        if self.self_attn is not None:
            query = self.norm1(x)
            attended = self.self_attn(query, position, query, shapes, reference)
            x = x + self.drop_path(self.scale1(attended))
        if self.ffn is not None:
            x = x + self.drop_path(self.scale2(self.ffn(self.norm2(x))))
        return x


class Encoder(nn.Module):
    """``encoder_layers`` layers; every token's reference is the center of its own cell."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        highest, count = config.transformer_drop_path, config.encoder_layers
        rates = torch.linspace(0, highest, count, device="cpu").tolist()  # numbers on any device
        self.layers = nn.ModuleList(EncoderLayer(config, rate, i) for i, rate in enumerate(rates))

    def forward(
        self, x: Tensor, position: Tensor, shapes: Sequence[tuple[int, int]], reference: Tensor
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, position, shapes, reference)
        return x

"""Neighborhood-attention transformer stages (the thesis' "DAT" stages, which hold nothing else)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.layers import DropPath, LayerScale
from detector.network.ops.neighborhood_attention import neighborhood_attention

LAYER_SCALE = 0.3


class NeighborhoodAttention(nn.Module):
    """Multi-head attention of every pixel over the kernel x kernel pixels around it.

    At borders the window shifts to stay inside. Head h owns the rows h*d..h*d+d-1 of each of the
    three blocks (query, key, value) of ``qkv`` and the same columns of ``proj``.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        kernel: int,
        dropout: float = 0.0,
        head_channels: int | None = None,
    ) -> None:
        super().__init__()
        width = heads * (head_channels or channels // heads)
        self.heads = heads
        self.kernel = kernel
        self.dropout = nn.Dropout(dropout)  # of attention weights and of the output
        self.qkv = nn.Linear(channels, 3 * width)
        self.relative_position_bias = nn.Parameter(
            torch.empty(heads, 2 * kernel - 1, 2 * kernel - 1)
        )
        self.proj = nn.Linear(width, channels)
        nn.init.trunc_normal_(self.relative_position_bias, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        _, height, width, _ = x.shape
        # A map smaller than the window is padded with zeros, which then count as pixels: the
        # projections' biases make keys and values of them. Only inputs under 112 pixels get here.
        x = F.pad(x, (0, 0, 0, max(0, self.kernel - width), 0, max(0, self.kernel - height)))
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, H, W, 3, heads, d)
        query, key, value = qkv.permute(3, 0, 4, 1, 2, 5)
        out = neighborhood_attention(
            query * query.shape[-1] ** -0.5,
            key,
            value,
            kernel=self.kernel,
            bias=self.relative_position_bias,
            dropout=self.dropout.p if self.training else 0.0,
        )  # (B, heads, H, W, d)
        out = self.proj(out.permute(0, 2, 3, 1, 4).flatten(3))
        return self.dropout(out[:, :height, :width])


class Mlp(nn.Module):
    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class AttentionLayer(nn.Module):
    """Pre-norm attention and MLP, each scaled and added; channels last.

    ``dropout`` is the rate of everything random in it, drop path included, as in the thesis.
    ``own`` are its numbers of heads and of hidden units, where they are not those of all layers;
    heads stay as wide as theirs, and a branch of size 0 is not there.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        dropout: float,
        config: HybridConfig,
        own: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        count, hidden = own or (heads, int(channels * config.mlp_ratio))
        self.attn = self.mlp = None
        if count:
            self.norm1 = nn.LayerNorm(channels)
            self.attn = NeighborhoodAttention(
                channels, count, config.attention_kernel, dropout, channels // heads
            )
            self.scale1 = LayerScale(channels, LAYER_SCALE)
        if hidden:
            self.norm2 = nn.LayerNorm(channels)
            self.mlp = Mlp(channels, hidden, dropout)
            self.scale2 = LayerScale(channels, LAYER_SCALE)
        self.drop_path = DropPath(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.attn is not None:
            x = x + self.drop_path(self.attn(self.norm1(x)) * self.scale1.weight)
        if self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)) * self.scale2.weight)
        return x


class AttentionStage(nn.Module):
    """``attention_depth`` layers of neighborhood attention on a (B, C, H, W) map.

    ``own``: heads and hidden units of each layer, where they are not alike.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        dropout: float,
        config: HybridConfig,
        own: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            AttentionLayer(channels, heads, dropout, config, own[i] if own else None)
            for i in range(config.attention_depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        for layer in self.layers:
            x = layer(x)
        return x.permute(0, 3, 1, 2)

"""The blocks of the four backbone stages and the down-sampling between them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.deformable_conv import DeformableConv
from detector.network.layers import (
    ChannelAttention,
    ChannelLayerNorm,
    DropPath,
    LayerScale,
    conv,
    make_norm,
)
from detector.network.neighborhood import AttentionStage


class Stem(nn.Module):
    """Image to stride 4: three convolutions, GELU between them, a layer norm at the end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(3, channels // 2, 3, stride=2)
        self.conv2 = conv(channels // 2, channels // 2, 3)
        self.conv3 = conv(channels // 2, channels, 3, stride=2)
        self.norm = ChannelLayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class Down(nn.Module):
    """Half the resolution: depthwise 3x3 of stride 2, pointwise, norm, SiLU."""

    def __init__(self, channels_in: int, channels_out: int, config: HybridConfig) -> None:
        super().__init__()
        self.depthwise = conv(channels_in, channels_in, 3, stride=2, groups=channels_in)
        self.pointwise = conv(channels_in, channels_out, 1)
        self.norm = make_norm(config.norm, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.pointwise(self.depthwise(x))))


class PlainBlock(nn.Module):
    """Stage 0: x + scale(norm(channel_attention(conv(x))))."""

    def __init__(self, channels: int, config: HybridConfig) -> None:
        super().__init__()
        self.conv = conv(channels, channels, 3)
        self.channel_attention = ChannelAttention(channels)
        self.norm = make_norm(config.norm, channels)
        self.scale = _layer_scale(channels, config)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale(self.norm(self.channel_attention(self.conv(x))))


class DeformableBlock(nn.Module):
    """Stage 1: x + scale(norm(channel_attention(deformable_conv(x))))."""

    def __init__(self, channels: int, config: HybridConfig) -> None:
        super().__init__()
        self.deform = DeformableConv(channels, config)
        self.channel_attention = ChannelAttention(channels)
        self.norm = make_norm(config.norm, channels)
        self.scale = _layer_scale(channels, config)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale(self.norm(self.channel_attention(self.deform(x))))


class SplitBlock(nn.Module):
    """Stage 2, cross-stage partial: one half convolved, one deformed, fused, added to the input."""

    def __init__(self, channels: int, drop_path: float, config: HybridConfig) -> None:
        super().__init__()
        half = channels // 2
        self.skip_conv = conv(half, half, 1)
        self.skip_norm = make_norm(config.norm, half)
        self.deform = DeformableConv(half, config)
        self.deform_norm = make_norm(config.norm, half)
        self.fuse = conv(channels, channels, 1)
        self.norm = make_norm(config.norm, channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        first = self.skip_norm(self.skip_conv(first))
        second = F.silu(self.deform_norm(self.deform(second)))
        fused = F.silu(self.norm(self.fuse(torch.cat((first, second), dim=1))))
        return x + self.drop_path(fused)


class AttentionBlock(nn.Module):
    """Stage 3: projection, two neighborhood-attention stages, channel attention.

    Each attention stage keeps its own residuals inside and gets another one around it, as in the
    thesis: the identity path is doubled.
    """

    def __init__(self, channels: int, drop_path: float, config: HybridConfig) -> None:
        super().__init__()
        self.proj = conv(channels, channels, 1)
        self.norm = make_norm(config.norm, channels)
        self.attention1 = AttentionStage(channels, config)
        self.attention2 = AttentionStage(channels, config)
        self.drop_path = DropPath(drop_path)
        self.channel_attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.proj(x)))
        x = self.drop_path(self.attention1(x)) + x
        x = self.drop_path(self.attention2(x)) + x
        return self.channel_attention(x)


def _layer_scale(channels: int, config: HybridConfig) -> nn.Module:
    if config.layer_scale is None:
        return nn.Identity()
    return LayerScale(channels, config.layer_scale)

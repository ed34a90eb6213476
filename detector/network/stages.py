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
from detector.network.modules.gate_fuse import GateFuse
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
    """Stage 2: half of the channels pass, the other half are convolved; both fused and added.

    The convolution is DCNv4; ``stage2`` adds neighborhood attention on the same half beside it,
    summed with it or fused by gates.
    """

    def __init__(self, channels: int, drop_path: float, config: HybridConfig) -> None:
        super().__init__()
        half = channels // 2
        self.skip_conv = conv(half, half, 1)
        self.skip_norm = make_norm(config.norm, half)
        self.deform = DeformableConv(half, config)
        self.deform_norm = make_norm(config.norm, half) if config.stage2_deform_norm else None
        self.attention = None
        if config.stage2 != "dcn":
            dropout = drop_path if config.stage2_dropout else 0.0
            self.attention = AttentionStage(half, config.stage2_heads, dropout, config)
        self.gate = GateFuse(half, config) if config.stage2 == "gate" else None
        self.fuse = conv(channels, channels, 1)
        self.norm = make_norm(config.norm, channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        first = self.skip_norm(self.skip_conv(first))
        fused = torch.cat((first, self._branches(second)), dim=1)
        return x + self.drop_path(F.silu(self.norm(self.fuse(fused))))

    def _branches(self, x: Tensor) -> Tensor:
        deform = self.deform(x)
        if self.deform_norm is not None:
            deform = F.silu(self.deform_norm(deform))
        if self.attention is None:
            return deform
        attention = self.attention(x)
        return self.gate(deform, attention) if self.gate is not None else deform + attention


class AttentionBlock(nn.Module):
    """Stage 3: projection, two neighborhood-attention stages, channel attention.

    Each attention stage keeps its own residuals inside and gets another one around it, as in the
    thesis: the identity path is doubled.
    """

    def __init__(self, channels: int, drop_path: float, config: HybridConfig, index: int) -> None:
        super().__init__()
        sizes = config.layer_sizes("stage3_heads"), config.layer_sizes("stage3_hidden")
        own = list(zip(*sizes, strict=True))[2 * index * config.attention_depth :]
        first, second = own[: config.attention_depth], own[config.attention_depth :]
        self.proj = conv(channels, channels, 1)
        self.norm = make_norm(config.norm, channels)
        self.attention1 = AttentionStage(channels, config.attention_heads, 0.0, config, first)
        self.attention2 = AttentionStage(channels, config.attention_heads, 0.0, config, second)
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

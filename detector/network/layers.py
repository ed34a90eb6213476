"""Small layers that several parts of the network share."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.network.ops.group_norm import group_norm
from detector.settings import NORM_GROUPS


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of a (B, C, H, W) map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GroupNorm(nn.GroupNorm):
    """Group norm of a (B, C, H, W) map."""

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def make_norm(kind: Literal["gn", "bn", "ln"], channels: int) -> nn.Module:
    """The norm that a config names. Group norm uses gcd(32, channels) groups."""
    if kind == "gn":
        return GroupNorm(math.gcd(NORM_GROUPS, channels), channels)
    return nn.BatchNorm2d(channels) if kind == "bn" else ChannelLayerNorm(channels)


class ConvNormAct(nn.Module):
    """Convolution without bias, norm, SiLU."""

    def __init__(self, conv: nn.Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class LayerScale(nn.Module):
    """A learned factor per channel; channels last, or on axis 1 of a (B, C, H, W) map."""

    def __init__(self, channels: int, init: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.weight[:, None, None] if x.ndim == 4 else self.weight)


class DropPath(nn.Module):
    """Drops a residual branch per sample with probability ``rate``, in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) < keep
        return x * mask / keep

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation of which a learned share is mixed in.

    out = x * (1 - s) + x * y * s, with y = sigmoid(expand(relu(reduce(mean over H, W)))) and
    s = sigmoid(residual_logit), about 0.12 at the start.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 8, 16)
        self.residual_logit = nn.Parameter(torch.tensor(-2.0))
        self.reduce = kaiming_(nn.Conv2d(channels, hidden, 1))
        self.expand = kaiming_(nn.Conv2d(hidden, channels, 1), nonlinearity="sigmoid")

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        s = torch.sigmoid(self.residual_logit)
        return x * ((1 - s) + y * s)


def conv(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A "same" convolution without bias, Kaiming-initialized by its ungrouped fan-out."""
    return kaiming_(
        nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            padding=kernel // 2,
            groups=groups,
            bias=False,
        )
    )


def kaiming_(module: nn.Conv2d, nonlinearity: Literal["relu", "sigmoid"] = "relu") -> nn.Conv2d:
    """Normal weights of std gain / sqrt(out_channels * k * k), zero bias.

    The fan-out is not divided by the groups, as the thesis does: depthwise kernels start small.
    """
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity=nonlinearity)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def xavier_linear(features_in: int, features_out: int) -> nn.Linear:
    """A linear layer with Xavier-uniform weights and zero bias."""
    linear = nn.Linear(features_in, features_out)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def scale_gradient(x: Tensor, gain: float) -> Tensor:
    """The value of ``x`` with a gradient (1 + gain) times as large."""
    return x + gain * (x - x.detach())


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear resize of a map to the height and width of another."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)

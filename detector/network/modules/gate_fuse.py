"""GateFuse: two branches of one map, DCNv4 and neighborhood attention, joined by learned gates."""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.layers import ChannelLayerNorm, LayerScale, conv, kaiming_, scale_gradient

GROUPS = 4  # of channels that share a temperature and an attention share
ATTENTION_BOOST = 0.1  # extra gradient of the attention branch
REFINE_SCALE, OUT_SCALE = 0.05, 0.7
KERNEL_FLOOR = 0.05  # least weight of either kernel
KERNEL_TEMPERATURES = (0.5, 5.0)
SPATIAL_INIT, SPATIAL_FLOOR = 0.15, 0.02
ATTENTION_INIT, ATTENTION_FLOOR = 0.7, 0.05
ATTENTION_BOUNDS = (0.15, 0.85)
ATTENTION_TEMPERATURES = (0.5, 2.5)
ATTENTION_TEMPERATURE_INIT = 2.0
DEFORM_BOUNDS, DEFORM_INIT = (0.10, 0.80), 0.2


class GateFuse(nn.Module):
    """w * deform + scale * o + s * attention, of two (B, C, H, W) maps.

    o mixes the branches (1x1 convolution of both and their difference, norm, a small MLP) into f
    and blends it per pixel with its depthwise convolutions: o = g * (a3 * K3 f + a5 * K5 f) +
    (1 - g) * f. Learned are the share a3, a5 of either kernel per image and channel (sum 1), the
    spatial gate g, the attention's share s per channel group and DCNv4's share w.

    Each of the gates can be switched off: a constant, its value at the start, then stands in for
    what it would learn. ``gate_kernels=False`` takes both kernels by halves.
    """

    def __init__(self, channels: int, config: HybridConfig) -> None:
        super().__init__()
        hidden = max(channels // 4, 32)
        self.groups = GROUPS if channels % GROUPS == 0 else 1
        self.mix = kaiming_(nn.Conv2d(3 * channels, channels, 1))
        self.norm = ChannelLayerNorm(channels)
        self.refine_norm = ChannelLayerNorm(channels)
        self.refine1 = kaiming_(nn.Conv2d(channels, hidden, 1))
        self.refine2 = kaiming_(nn.Conv2d(hidden, channels, 1))
        self.refine_scale = LayerScale(channels, REFINE_SCALE)
        self.kernel3 = conv(channels, channels, 3, groups=channels)
        self.kernel5 = conv(channels, channels, 5, groups=channels)
        self.kernel_gate = KernelGate(channels, self.groups) if config.gate_kernels else None
        self.spatial_gate = SpatialGate(channels) if config.gate_spatial else None
        self.scale = LayerScale(channels, OUT_SCALE)
        self.attention_logit = nn.Parameter(torch.full((self.groups,), _logit(ATTENTION_INIT)))
        self.attention_log_temperature = nn.Parameter(
            torch.tensor(math.log(ATTENTION_TEMPERATURE_INIT))
        )
        self.deform_logit = (
            nn.Parameter(torch.tensor([_logit(DEFORM_INIT)])) if config.gate_deform_share else None
        )

    def forward(self, deform: Tensor, attention: Tensor) -> Tensor:
        boosted = scale_gradient(attention, ATTENTION_BOOST)
        f = self.norm(self.mix(torch.cat((deform, boosted, deform - boosted), dim=1)))
        refined = self.refine2(F.gelu(self.refine1(self.refine_norm(f))))
        f = f + self.refine_scale(refined)
        mixed = self._mixed_kernels(f)
        g = self.spatial_gate(f) if self.spatial_gate else _floored(SPATIAL_INIT, SPATIAL_FLOOR)
        o = g * mixed + (1 - g) * f
        share = self.attention_share().repeat_interleave(f.shape[1] // self.groups)
        attended = share[:, None, None] * boosted
        return self.deform_share() * deform + self.scale(o) + attended

    def attention_share(self) -> Tensor:
        """(groups,) factors of the attention branch."""
        temperature = self.attention_log_temperature.exp().clamp(*ATTENTION_TEMPERATURES)
        p = (torch.tanh(self.attention_logit / temperature) + 1) / 2
        low, high = ATTENTION_BOUNDS
        return low + (high - low) * _floored(p, ATTENTION_FLOOR)

    def deform_share(self) -> Tensor | float:
        """Factor of the DCNv4 branch."""
        low, high = DEFORM_BOUNDS
        if self.deform_logit is None:
            return low + (high - low) * DEFORM_INIT
        return low + (high - low) * torch.sigmoid(self.deform_logit)

    def _mixed_kernels(self, f: Tensor) -> Tensor:
        three, five = self.kernel3(f), self.kernel5(f)
        if self.kernel_gate is None:
            return (three + five) / 2
        weights = self.kernel_gate(f)
        return weights[:, 0] * three + weights[:, 1] * five


class KernelGate(nn.Module):
    """How much of either kernel: softmax over the two, per image and channel.

    The gate learns from the map and sends it no gradient.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        hidden = max(channels // 8, 32)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, 2 * channels)
        self.log_temperature = nn.Parameter(torch.zeros(groups))
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out", nonlinearity="relu")
        nn.init.xavier_uniform_(self.expand.weight)
        nn.init.zeros_(self.reduce.bias)
        nn.init.zeros_(self.expand.bias)

    def forward(self, f: Tensor) -> Tensor:
        """(B, C, H, W) to weights (B, 2, C, 1, 1), 3x3 first."""
        pooled = f.detach().mean((2, 3))
        logits = self.expand(F.relu(self.reduce(pooled))).unflatten(1, (2, -1))
        temperature = self.log_temperature.exp().clamp(*KERNEL_TEMPERATURES)
        per_channel = temperature.repeat_interleave(f.shape[1] // len(temperature))
        weights = _floored((logits / per_channel).softmax(1), KERNEL_FLOOR)
        return weights[..., None, None]


class SpatialGate(nn.Module):
    """How far each pixel takes the convolved map, (B, C, H, W) in [0.02, 0.98]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = conv(channels, channels, 3, groups=channels)
        self.pointwise = kaiming_(nn.Conv2d(channels, channels, 1))
        nn.init.constant_(self.pointwise.bias, _logit(SPATIAL_INIT))  # type: ignore[arg-type]

    def forward(self, f: Tensor) -> Tensor:
        return _floored(torch.sigmoid(self.pointwise(self.depthwise(f))), SPATIAL_FLOOR)


Probability = TypeVar("Probability", Tensor, float)


def _floored(p: Probability, floor: float) -> Probability:
    """A probability squeezed into [floor, 1 - floor]."""
    return p * (1 - 2 * floor) + floor


def _logit(p: float) -> float:
    return math.log(p / (1 - p))

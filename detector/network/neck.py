"""A light BiFPN: top-down and bottom-up passes that fuse maps with spatial weights."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.backbone import Maps
from detector.network.layers import (
    ChannelLayerNorm,
    ConvNormAct,
    DropPath,
    LayerScale,
    conv,
    make_norm,
    resize,
    scale_gradient,
)
from detector.network.ops.channel_groups import group_means, times_groups
from detector.network.ops.rms_normalize import rms_normalize

FUSE_GROUPS = 4
TAU_INIT, TAU_BOUNDS = 1.4, (0.8, 1.8)
FUSE_FLOOR, FUSE_EPS = 0.02, 5e-4
GRADIENT_BOOST = 0.1  # of p3, in training
LATE_DROP_PATH = 0.01  # of every repeat but the first
RESIDUAL_SCALE, EDGE_SCALE, KEEP_SCALE = 0.6, 0.03, 0.10
STEPS = (2, 2, 2, 2, 2, 3, 2)  # maps that are fused in each: three top-down, four bottom-up
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


class Neck(nn.Module):
    """Maps of any widths to maps of ``d_model`` channels, fused ``neck_repeats`` times.

    The up-sampling layers and the scales of what is kept of a level are shared by all repeats.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        d = config.d_model
        self.inputs = nn.ModuleList(
            ConvNormAct(conv(width, d, 1), ChannelLayerNorm(d)) for width in config.widths
        )
        self.upsample = nn.ModuleList(UpSample(d, config) for _ in range(3))
        self.keep = nn.ModuleList(LayerScale(d, KEEP_SCALE) for _ in range(3))
        blocks, each = config.layer_sizes("neck_blocks"), len(STEPS)
        self.repeats = nn.ModuleList(
            Repeat(d, LATE_DROP_PATH if r else 0.0, blocks[r * each : (r + 1) * each])
            for r in range(config.neck_repeats)
        )

    def forward(self, maps: Maps) -> Maps:
        p3, p4, p5, p6 = (layer(x) for layer, x in zip(self.inputs, maps, strict=True))
        if self.training:
            p3 = scale_gradient(p3, GRADIENT_BOOST)
        maps = p3, p4, p5, p6
        for r, repeat in enumerate(self.repeats):
            maps = repeat(maps, self.upsample, self.keep, first=r == 0)
        return maps


class Repeat(nn.Module):
    """One top-down and one bottom-up pass.

    The three top-down steps make p5, p4, p3; the four bottom-up steps make p3, p4, p5, p6.
    ``blocks`` says for each of them whether it has a residual block.
    """

    def __init__(self, channels: int, drop_path: float, blocks: Sequence[int]) -> None:
        super().__init__()
        top, bottom = blocks[:3], blocks[3:]
        self.top_fuse = nn.ModuleList(SpatialFuse(inputs) for inputs in STEPS[:3])
        self.top_blocks = nn.ModuleList(_block(channels, drop_path, one) for one in top)
        self.bottom_fuse = nn.ModuleList(SpatialFuse(inputs) for inputs in STEPS[3:])
        self.bottom_blocks = nn.ModuleList(_block(channels, drop_path, one) for one in bottom)

    def forward(
        self, maps: Maps, upsample: nn.ModuleList, keep: nn.ModuleList, first: bool
    ) -> Maps:
        p3, p4, p5, p6 = maps
        normal = [rms_normalize(x) for x in (p3, p4, p5, p6)]
        above, tops = p6, []
        for step, (level, own) in enumerate(zip((p5, p4, p3), normal[2::-1], strict=True)):
            up = upsample[step](above, like=level, first=first)
            fused = self.top_fuse[step](own, rms_normalize(up))
            above = self.top_blocks[step](fused) + keep[step](level)
            tops.append(rms_normalize(above))
        t5, t4, t3 = tops

        fuse, block = self.bottom_fuse, self.bottom_blocks
        p3 = block[0](fuse[0](normal[0], t3))
        # The p4 that enters is not used.
        p4 = block[1](fuse[1](t4, rms_normalize(_pool(p3))))
        p5 = block[2](fuse[2](normal[2], rms_normalize(_pool(p4)), t5))
        p6 = block[3](fuse[3](normal[3], rms_normalize(_pool(p5))))
        return p3, p4, p5, p6


class SpatialFuse(nn.Module):
    """A weighted sum of K maps; one weight per map, pixel and group of channels.

    Weights come from the groups' channel means through a small grouped convolution, softplus with
    a learned temperature, normalization and a floor of 0.02 / K.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.log_tau = nn.Parameter(torch.tensor(math.log(TAU_INIT)))
        # Output and input channels in the order group-major, input-minor.
        self.proj = nn.Conv2d(FUSE_GROUPS * inputs, FUSE_GROUPS * inputs, 1, groups=FUSE_GROUPS)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, *maps: Tensor) -> Tensor:
        means = torch.stack([group_means(x, FUSE_GROUPS) for x in maps], dim=2)
        means = means * torch.rsqrt(means.square().mean(dim=2, keepdim=True) + 1e-6)
        # means and weights are (B, groups, K, H, W)
        logits = self.proj(means.flatten(1, 2)).unflatten(1, (FUSE_GROUPS, self.inputs))
        weights = F.softplus(logits / self.log_tau.exp().clamp(*TAU_BOUNDS)) + 1e-9
        weights = weights / (weights.sum(dim=2, keepdim=True) + FUSE_EPS)
        weights = (1 - FUSE_FLOOR) * weights + FUSE_FLOOR / self.inputs
        parts = [times_groups(x, w) for x, w in zip(maps, weights.unbind(2), strict=True)]
        return sum(parts[1:], start=parts[0])


class Residual(nn.Module):
    """x + scale(silu(norm(conv(x))))."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.conv = conv(channels, channels, 3)
        self.norm = ChannelLayerNorm(channels)
        self.scale = LayerScale(channels, RESIDUAL_SCALE)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.scale(F.silu(self.norm(self.conv(x)))))


def _block(channels: int, drop_path: float, there: int) -> nn.Module:
    return Residual(channels, drop_path) if there else nn.Identity()


class UpSample(nn.Module):
    """Bilinear up-sampling, norm, SiLU; after the first repeat also a blur and an edge filter."""

    def __init__(self, channels: int, config: HybridConfig) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, channels)
        if config.neck_repeats > 1:
            self.blur = conv(channels, channels, 3, groups=channels)
            self.edge = conv(channels, channels, 3, groups=channels)
            with torch.no_grad():
                self.edge.weight.copy_(torch.tensor(LAPLACIAN))
            self.edge_scale = LayerScale(channels, EDGE_SCALE)

    def forward(self, x: Tensor, like: Tensor, first: bool) -> Tensor:
        x = resize(x, like)
        if not first:
            x = self.blur(x)
            x = x + self.edge_scale(self.edge(x))
        return F.silu(self.norm(x))


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)

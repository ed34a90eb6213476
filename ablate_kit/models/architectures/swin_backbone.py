"""Swin Transformer (Liu et al. 2021, https://arxiv.org/abs/2103.14030) as a detector's backbone.

transformers has one, too, whose tensors are called otherwise from one version to the next; these
are called as in the original repository. Stochastic depth, which only training has, is left out.

This file stands by itself: it goes with a folder of weights, and needs torch and transformers.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BackboneOutput

APART = -100.0  # added before the softmax, where two tokens of a window are no neighbors


class SwinBackbone(nn.Module):
    """Maps of the stages that ``config.out_features`` names, each normed by channel.

    Args:
        config: ``SwinConfig`` of transformers. Where its ``merge_by_channel`` is true, a merged
            patch is ordered by channel and then by place, as MMDetection does, not by place first.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        stages = range(len(config.depths))
        widths = [config.embed_dim * 2**stage for stage in stages]
        self.handed_on = [stage for stage in stages if f"stage{stage + 1}" in config.out_features]
        self.channels = [widths[stage] for stage in self.handed_on]
        self.patch_embed = PatchEmbedding(config)
        self.layers = nn.ModuleList(Stage(config, stage, widths[stage]) for stage in stages)
        for stage in self.handed_on:
            norm = nn.LayerNorm(widths[stage], eps=config.layer_norm_eps)
            self.add_module(f"norm{stage}", norm)

    def forward(self, pixels: Tensor) -> BackboneOutput:
        hidden = self.patch_embed(pixels)
        found = []
        for i, stage in enumerate(self.layers):
            hidden, merged = stage(hidden)
            if i in self.handed_on:
                normed = self.get_submodule(f"norm{i}")(hidden)
                found.append(normed.permute(0, 3, 1, 2).contiguous())
            hidden = merged
        return BackboneOutput(feature_maps=tuple(found))


class PatchEmbedding(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.size = config.patch_size
        self.proj = nn.Conv2d(3, config.embed_dim, self.size, stride=self.size)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """(batch, height, width, channels), as all that follows."""
        height, width = pixels.shape[-2:]
        padded = F.pad(pixels, (0, -width % self.size, 0, -height % self.size))
        return self.norm(self.proj(padded).permute(0, 2, 3, 1))


class Stage(nn.Module):
    def __init__(self, config: Any, number: int, width: int) -> None:
        super().__init__()
        self.window = config.window_size
        self.blocks = nn.ModuleList(
            Block(config, config.num_heads[number], width, shift=self.window // 2 * (i % 2))
            for i in range(config.depths[number])
        )
        last = number == len(config.depths) - 1
        self.downsample = None if last else PatchMerging(config, width)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What the stage gives, and what the next one takes."""
        apart = _apart(hidden, self.window)
        places = _relative_places(self.window, hidden.device)
        for block in self.blocks:
            hidden = block(hidden, places, apart)
        return hidden, hidden if self.downsample is None else self.downsample(hidden)


class Block(nn.Module):
    def __init__(self, config: Any, heads: int, width: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = config.window_size, shift
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attn = WindowAttention(width, heads, self.window)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(width, int(width * config.mlp_ratio))

    def forward(self, hidden: Tensor, places: Tensor, apart: Tensor) -> Tensor:
        height, width = hidden.shape[1:3]
        x = self.norm1(hidden)
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        rows, columns = x.shape[1] // self.window, x.shape[2] // self.window
        x = self.attn(_windows(x, self.window), places, apart if self.shift else None)
        x = x.unflatten(2, (self.window, self.window)).unflatten(1, (rows, columns))
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        hidden = hidden + x[:, :height, :width]
        return hidden + self.mlp(self.norm2(hidden))


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias for how far two tokens are from each other."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, places: Tensor, apart: Tensor | None) -> Tensor:
        """``x`` (batch, windows, tokens, width); ``places`` in the table, (tokens, tokens);
        ``apart`` (windows, tokens, tokens)."""
        parts = self.qkv(x).unflatten(3, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        # Windows and heads as one dimension, over which kernels of attention go in parallel.
        query, key, value = parts.flatten(2, 3)
        bias = self.relative_position_bias_table[places].permute(2, 0, 1)[None]
        bias = bias.expand(x.shape[1], -1, -1, -1) if apart is None else bias + apart[:, None]
        attended = F.scaled_dot_product_attention(query, key, value, bias.flatten(0, 1)[None])
        attended = attended.unflatten(1, (-1, self.num_heads)).transpose(2, 3)
        return self.proj(attended.flatten(3))


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PatchMerging(nn.Module):
    """Each square of four tokens becomes one of twice their width."""

    def __init__(self, config: Any, width: int) -> None:
        super().__init__()
        self.by_channel = getattr(config, "merge_by_channel", False)
        self.norm = nn.LayerNorm(4 * width, eps=config.layer_norm_eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # batch, rows, 2, columns, 2, channels
        # By place, the four of a square come column by column; by channel, row by row.
        order = (0, 1, 3, 5, 2, 4) if self.by_channel else (0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.permute(order).flatten(3)))


def _windows(x: Tensor, window: int) -> Tensor:
    """(batch, height, width, channels) to (batch, windows, tokens, channels)."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _apart(hidden: Tensor, window: int) -> Tensor:
    """What is added where tokens share a window of the shifted map alone: its first and last rows
    and columns, which the shift brings together, are no neighbors. (windows, tokens, tokens)"""

    def strip(length: int) -> Tensor:
        padded = length + -length % window
        place = torch.arange(padded, device=hidden.device)
        return (place >= padded - window).long() + (place >= padded - window // 2)

    region = strip(hidden.shape[1])[:, None] * 3 + strip(hidden.shape[2])
    regions = _windows(region[None, :, :, None], window)[0, :, :, 0]
    differ = regions[:, :, None] != regions[:, None]
    return differ.to(hidden.dtype) * APART


def _relative_places(window: int, device: torch.device) -> Tensor:
    """Where the bias of each pair of a window's tokens is in the table, (tokens, tokens)."""
    place = torch.arange(window**2, device=device)
    row, column = place // window, place % window
    down = row[:, None] - row + window - 1
    right = column[:, None] - column + window - 1
    return down * (2 * window - 1) + right

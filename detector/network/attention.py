"""The attention and feed-forward layers of encoder and decoder."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.network.layers import xavier_linear
from detector.network.ops.deformable_attention import multi_scale_deformable_attention

LEVELS = 4


class SelfAttention(nn.Module):
    """Multi-head self-attention with packed projections.

    Head h owns the rows h*d..h*d+d-1 of each third of ``in_proj_weight`` and the same columns of
    ``out_proj.weight``.
    """

    def __init__(self, channels: int, heads: int, head_channels: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        width = heads * (head_channels or channels // heads)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape.

        ``attention_mask``, broadcastable to (B, heads, N, N), is true where row i must not see j.
        """
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        allowed = None if attention_mask is None else ~attention_mask
        out = F.scaled_dot_product_attention(query, key, value, allowed)  # (B, heads, N, d)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Zhu et al. 2021), as mmcv's module computes it.

    That module adds its own identity: the result is query + dropout(output_proj(sampled)), with
    the query before its position is added. The thesis' layers add their residual around this, so
    that the normalized query enters the stream as well; its checkpoints are trained with it.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        points: int,
        dropout: float,
        head_channels: int | None = None,
    ) -> None:
        super().__init__()
        width = heads * (head_channels or channels // heads)
        self.heads = heads
        self.points = points
        samples = heads * LEVELS * points
        self.sampling_offsets = nn.Linear(channels, 2 * samples)
        self.attention_weights = nn.Linear(channels, samples)
        self.value_proj = xavier_linear(channels, width)
        self.output_proj = xavier_linear(width, channels)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(_star(heads, points).flatten())

    def forward(
        self,
        query: Tensor,
        position: Tensor,
        memory: Tensor,
        shapes: Sequence[tuple[int, int]],
        reference: Tensor,
    ) -> Tensor:
        """
        Args:
            query: (B, N, C).
            position: added to the query for offsets and weights only; broadcastable to it.
            memory: (B, tokens, C), the levels' maps one after the other.
            shapes: (height, width) of each level.
            reference: (B, N, 2) or (1, N, 2) points (x, y) in [0, 1], the same on every level.
        """
        value = self.value_proj(memory).unflatten(-1, (self.heads, -1))
        located = query + position
        split = (self.heads, LEVELS, self.points)
        offsets = self.sampling_offsets(located).unflatten(-1, (*split, 2))
        weights = _softmax(self.attention_weights(located).unflatten(-1, (self.heads, -1)))
        sampled = multi_scale_deformable_attention(
            value, shapes, reference, offsets, weights.unflatten(-1, split[1:])
        )
        return query + self.dropout(self.output_proj(sampled))


class GatedFeedForward(nn.Module):
    """SwiGLU: fc2(silu(gate) * linear), with [linear | gate] = fc1(x); 2 C units by default."""

    def __init__(self, channels: int, hidden: int | None) -> None:
        super().__init__()
        hidden = 2 * channels if hidden is None else hidden
        self.fc1 = xavier_linear(channels, 2 * hidden)
        self.fc2 = xavier_linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        linear, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * linear)


def _softmax(logits: Tensor) -> Tensor:
    """Over the last axis. Of fewer than 16 numbers, a CPU's vector, torch takes one at a time."""
    if logits.device.type == "cpu" and logits.shape[-1] < 16:
        return (logits - logits.logsumexp(-1, keepdim=True)).exp()
    return logits.softmax(-1)


def _star(heads: int, points: int) -> Tensor:
    """(heads, LEVELS, points, 2): one direction per head, one step further per point."""
    angles = torch.arange(heads) * (2 * math.pi / heads)
    directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
    directions = directions / directions.abs().amax(dim=-1, keepdim=True)
    steps = torch.arange(1, points + 1)
    return (directions[:, None, None] * steps[:, None]).expand(heads, LEVELS, points, 2)

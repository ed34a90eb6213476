"""Weighted sums of bilinear samples by ``grid_sample``, the usual formulation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def grid_sampled_sum(
    value: Tensor, shapes: Sequence[tuple[int, int]], x: Tensor, y: Tensor, weight: Tensor
) -> Tensor:
    """As :func:`bilinear_sum`; keeps all d channels of every sample, in float32."""
    batch, _, groups, channels = value.shape
    queries = x.shape[1]
    dtype = torch.promote_types(torch.promote_types(value.dtype, x.dtype), torch.float32)
    x, y, weight = x.to(dtype), y.to(dtype), weight.to(dtype)
    # grid_sample takes what is no number for a place beyond the map.
    weight = torch.where((x + y).isnan(), torch.nan, weight)
    parts = value.split([height * width for height, width in shapes], dim=1)
    sums = []
    for i, ((height, width), part) in enumerate(zip(shapes, parts, strict=True)):
        maps = part.to(dtype).permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        across, along = x[..., i, :].clamp(-2, width + 1), y[..., i, :].clamp(-2, height + 1)
        grid = torch.stack(((2 * across + 1) / width - 1, (2 * along + 1) / height - 1), dim=-1)
        samples = F.grid_sample(maps, grid.transpose(1, 2).flatten(0, 1), align_corners=False)
        shares = weight[..., i, :].transpose(1, 2).reshape(batch * groups, 1, queries, -1)
        sums.append((samples * shares).sum(-1))  # (B * groups, d, N)
    total = sum(sums[1:], sums[0]).view(batch, groups, channels, queries)
    return total.permute(0, 3, 1, 2).to(value.dtype)

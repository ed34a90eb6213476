"""Weighted sums of bilinear samples as they are usually written, for a compiler to fuse."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from detector.network.ops.host_values import constant


def places_of(shapes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(3, maps): of each map its first pixel, height and width."""
    sizes = [height * width for height, width in shapes]
    starts = (0, *accumulate(sizes[:-1]))
    return constant((starts, *zip(*shapes, strict=True)), torch.int64, device)


def gathered_sum(value: Tensor, maps: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """As :func:`bilinear_sum`: four rows of each sample, times their shares, summed.

    ``maps`` is what :func:`places_of` says.
    """
    batch, tokens, groups, channels = value.shape
    dtype = torch.promote_types(torch.promote_types(value.dtype, x.dtype), torch.float32)
    x, y, weight = x.to(dtype), y.to(dtype), weight.to(dtype)
    start, height, width = maps[:, :, None].unbind()
    image = torch.arange(batch, device=value.device).view(batch, 1, 1, 1, 1)
    group = torch.arange(groups, device=value.device).view(groups, 1, 1)
    beyond = (x <= -1) | (x >= width) | (y <= -1) | (y >= height)
    x, y = x.clamp(min=-2).minimum(width + 1), y.clamp(min=-2).minimum(height + 1)
    left, top = x.detach().floor(), y.detach().floor()
    # In float32, since its gradient is added up there; the compiler has no atomic bfloat16 either.
    table = value.reshape(batch * tokens * groups, channels).to(dtype)
    parts = []
    for row, along_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, along_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
            share = torch.where(beyond | outside, 0, weight * along_x * along_y).flatten(3)
            # Whatever NaN is as a whole number, it stays inside.
            along = row.long().clamp(min=0).minimum(height - 1)
            across = column.long().clamp(min=0).minimum(width - 1)
            index = ((image * tokens + start + along * width + across) * groups + group).flatten(3)
            rows = table[index]  # (B, N, groups, samples, d)
            parts.append((rows * share.unsqueeze(-1)).sum(3))
    return sum(parts[1:], parts[0]).to(value.dtype)

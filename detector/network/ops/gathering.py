"""Weighted sums of bilinear samples as they are usually written, for a compiler to fuse."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from detector.network.ops.host_values import constant


def gathered_sum(
    value: Tensor, shapes: Sequence[tuple[int, int]], x: Tensor, y: Tensor, weight: Tensor
) -> Tensor:
    """As :func:`bilinear_sum`: four rows of each sample, times their shares, summed."""
    batch, tokens, groups, channels = value.shape
    dtype = torch.promote_types(torch.promote_types(value.dtype, x.dtype), torch.float32)
    x, y, weight = x.to(dtype), y.to(dtype), weight.to(dtype)
    sizes = [height * width for height, width in shapes]
    of_maps = ((0, *accumulate(sizes[:-1])), *zip(*shapes, strict=True))
    start, height, width = constant(of_maps, torch.int64, value.device)[:, :, None].unbind()
    image = torch.arange(batch, device=value.device).view(batch, 1, 1, 1, 1)
    group = torch.arange(groups, device=value.device).view(groups, 1, 1)
    beyond = (x <= -1) | (x >= width) | (y <= -1) | (y >= height)
    x, y = x.clamp(min=-2).minimum(width + 1), y.clamp(min=-2).minimum(height + 1)
    left, top = x.detach().floor(), y.detach().floor()
    table = value.reshape(batch * tokens * groups, channels)
    parts = []
    for row, along_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, along_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
            share = torch.where(beyond | outside, 0, weight * along_x * along_y).flatten(3)
            # Whatever NaN is as a whole number, it stays inside.
            along = row.long().clamp(min=0).minimum(height - 1)
            across = column.long().clamp(min=0).minimum(width - 1)
            index = ((image * tokens + start + along * width + across) * groups + group).flatten(3)
            rows = table[index].to(dtype)  # (B, N, groups, samples, d)
            parts.append((rows * share.unsqueeze(-1)).sum(3))
    return sum(parts[1:], parts[0]).to(value.dtype)

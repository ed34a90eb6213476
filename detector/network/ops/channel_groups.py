"""Means over groups of a map's channels, and weights that a group's channels share."""

from functools import lru_cache

import torch
from torch import Tensor

from detector.network.ops.layout import lies_by_pixels


def group_means(x: Tensor, groups: int) -> Tensor:
    """(B, C, H, W) to (B, groups, H, W)."""
    if lies_by_pixels(x):
        return _by_pixels(x, _members(groups, x.shape[1], x.dtype, x.device).mT) * (
            groups / x.shape[1]
        )
    return x.unflatten(1, (groups, -1)).mean(dim=2)


def times_groups(x: Tensor, weights: Tensor) -> Tensor:
    """(B, C, H, W) times weights (B, groups, H, W)."""
    groups = weights.shape[1]
    if lies_by_pixels(x):
        return x * _by_pixels(weights, _members(groups, x.shape[1], x.dtype, x.device))
    return (weights[:, :, None] * x.unflatten(1, (groups, -1))).flatten(1, 2)


def _by_pixels(x: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel's channels times a matrix: several times as fast as to go through the few
    channels of a group for every pixel, where they lie side by side."""
    return (x.permute(0, 2, 3, 1) @ matrix).permute(0, 3, 1, 2)


@lru_cache(maxsize=32)
def _members(groups: int, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(groups, channels): 1 where the channel is of the group, else 0."""
    with torch.inference_mode(False):  # a later caller may need gradients
        one = torch.eye(groups, dtype=dtype, device=device)
        return one.repeat_interleave(channels // groups, dim=1)

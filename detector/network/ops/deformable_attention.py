"""Multi-scale deformable attention, the sampling core without projections."""

from collections.abc import Sequence

import torch
from torch import Tensor

from detector.network.ops.bilinear import Implementation, bilinear_sum, sample_places
from detector.network.ops.host_values import constant


def multi_scale_deformable_attention(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    weights: Tensor,
    implementation: Implementation | None = None,
) -> Tensor:
    """Weighted sum of values sampled at a few learned places of every level (Zhu et al. 2021).

    References are relative to a level's outer edges: (0, 0) is the upper left corner of the upper
    left pixel, so x is column W * x - 1/2 (``grid_sample`` with ``align_corners=False``). Outside
    a level the value is zero.

    Args:
        value: (B, tokens, heads, d), the levels' pixels row by row, one level after the other.
        shapes: (height, width) of each level.
        reference: (B, N, 2) or (1, N, 2) as (x, y), the same on every level.
        offsets: (B, N, heads, levels, points, 2) from there as (x, y), in pixels of their level.
        weights: (B, N, heads, levels, points), already normalized.
        implementation: see :func:`bilinear_sum`.

    Returns:
        (B, N, heads * d).
    """
    if offsets.ndim != 6 or offsets.shape[3::2] != (len(shapes), 2):
        raise ValueError(
            f"offsets of shape {tuple(offsets.shape)}; "
            f"expected (B, N, heads, {len(shapes)}, points, 2)"
        )
    # Half precision cannot tell the pixels of a large level apart.
    dtype = torch.promote_types(torch.promote_types(reference.dtype, offsets.dtype), torch.float32)
    sides = tuple((width, height) for height, width in shapes)
    size = constant(sides, dtype, offsets.device)
    centers = reference[:, :, None] * size - 0.5  # (B, N, levels, 2)
    places = sample_places(centers[:, :, :, None], offsets)
    return bilinear_sum(value, shapes, places, weights, implementation).flatten(2)

"""Weighted sums of bilinear samples, the common core of the deformable operations.

The usual formulation samples with ``grid_sample`` and multiplies by the weights afterwards, which
keeps d channels of every sample. Here a sample is four weighted rows of ``value``, and
``embedding_bag`` sums weighted rows without keeping any. The gradient of ``value`` is the same sum
with rows and bags exchanged, after one sort of the samples by pixel: no two additions meet, so
both directions are deterministic.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detector.network.ops.corners import Corners, Maps, Places
from detector.network.ops.grids import grid_sampled_sum
from detector.network.ops.sampled_products import products_at

Implementation = Literal["bags", "grid"]

# Samples computed at once, of one image or more; each needs about a hundred bytes. On the CPU
# temporaries near the cache's size are fastest, a GPU wants few, large kernels.
SAMPLES_CPU = 1 << 17
SAMPLES_GPU = 1 << 23
# Channels of an image's samples that may be kept for the backward pass, on a GPU: 256 MiB. Of one
# image, so that the batch does not decide.
KEPT = 1 << 26


def bilinear_sum(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    places: Tensor,
    weight: Tensor,
    implementation: Implementation | None,
) -> Tensor:
    """Sum over maps m and points p of weight * (map m, bilinearly sampled at (x, y)).

    Maps are zero outside, so samples fade out within one pixel of the border; a sample with
    x <= -1, x >= width, y <= -1 or y >= height has neither value nor gradient. Half precision is
    summed in float32.

    Args:
        value: (B, tokens, groups, d), the pixels of each map row by row, one map after the other.
        shapes: (height, width) of each map.
        places: (2, B, N, groups, maps, points), x and y in pixels; whole numbers are pixel centers.
        weight: (B, N, groups, maps, points).
        implementation: "bags" as above, the same bits each time; "grid" by ``grid_sample``, whose
            gradient of ``value`` is added atomically on a GPU. By default what :func:`automatic`
            chooses.

    Returns:
        (B, N, groups, d) with the dtype of ``value``.
    """
    _check(value, shapes, places, weight)
    name = implementation or automatic(value, weight)
    if not value.numel() or not weight.numel():
        name = "bags"
    if name == "grid":
        x, y = places
        return grid_sampled_sum(value, shapes, x, y, weight)
    dtype = torch.promote_types(torch.promote_types(value.dtype, places.dtype), torch.float32)
    maps, map_shapes = _at_least_two_wide(value.to(dtype), shapes)
    places, weight = places.to(dtype).flatten(4), weight.to(dtype).flatten(3)
    # Where a map is read more than once, a group's pixels side by side pay for their copy.
    apart = weight.shape[1] * weight.shape[3] > maps.shape[1]
    if apart:
        maps, weight = (
            tensor.transpose(1, 2).flatten(0, 1)[:, :, None] for tensor in (maps, weight)
        )
        places = places.transpose(2, 3).flatten(1, 2).unsqueeze(3)
    tensors = (tensor.contiguous() for tensor in (places, weight))
    out: Tensor = _BilinearSum.apply(maps.contiguous(), map_shapes, *tensors)
    if apart:
        out = out.view(*value.shape[::2], *out.shape[1::2]).transpose(1, 2)
    return out.to(value.dtype)


def sample_places(centers: Tensor, offsets: Tensor, scale: float = 1.0) -> Tensor:
    """Places for :func:`bilinear_sum`: centers + scale * offsets.

    Args:
        centers: (B or 1, N, maps, points or 1, 2) as (x, y), in pixels, the same in all groups.
        offsets: (B, N, groups, maps, points, 2).
    """
    points = offsets.shape[4]
    # In the order in which samples are summed where they are many: each group by itself.
    apart = offsets.permute(5, 0, 2, 1, 3, 4).contiguous()  # (2, B, groups, N, maps, points)
    shared = centers.expand(-1, -1, -1, points, -1).permute(4, 0, 1, 2, 3).contiguous()
    return torch.add(shared[:, :, None], apart, alpha=scale).transpose(2, 3)


def automatic(value: Tensor, weight: Tensor) -> Implementation:
    """The one place where the implementation is chosen, by what benchmarks/ops.py measured.

    On an H100, ``grid_sample`` was two to four times as fast as bags, forward and backward, except
    for an encoder's many samples, of which it keeps too much.
    """
    same_bits = torch.are_deterministic_algorithms_enabled() and torch.is_grad_enabled()
    few = weight.shape[1:].numel() * value.shape[3] <= KEPT
    return "grid" if value.is_cuda and few and not same_bits else "bags"


class _BilinearSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, shapes: tuple[tuple[int, int], ...], places: Tensor, weight: Tensor
    ) -> Tensor:
        ctx.save_for_backward(value, places, weight)
        ctx.shapes = shapes
        maps = Maps.of(shapes, value, places)
        out = value.new_empty(*weight.shape[:3], value.shape[3])
        for images in _blocks(weight):
            corners = maps.places(places[:, images])
            weights = corners.corner_weights(_rows(weight[images]))
            _rows(out[images]).copy_(_weighted_rows(_rows(value[images]), corners, weights))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, places, weight = ctx.saved_tensors
        maps = Maps.of(ctx.shapes, value, places)
        for_value, _, *for_samples = ctx.needs_input_grad
        grad = grad.contiguous()
        grad_value = torch.zeros_like(value)
        grad_places, grad_weight = torch.empty_like(places), torch.empty_like(weight)
        for images in _blocks(weight):
            grad_rows, rows = _rows(grad[images]), _rows(weight[images])
            corners = maps.places(places[:, images])
            weights = corners.corner_weights(rows)
            if for_value:
                _scatter_rows(_rows(grad_value[images]), grad_rows, corners, weights)
            if any(for_samples):
                dots = _dots(_rows(value[images]), corners, weights, grad_rows)
                targets = (*grad_places[:, images], grad_weight[images])
                for target, part in zip(targets, corners.gradients(rows, dots), strict=True):
                    _rows(target).copy_(part)
        return grad_value, None, grad_places, grad_weight


def _weighted_rows(table: Tensor, places: Places, weights: Corners) -> Tensor:
    """(bags, d): sums over a bag's samples and their corners."""
    total, *others = (
        F.embedding_bag(index, part, per_sample_weights=weight, mode="sum")
        for index, part, weight in zip(places.rows, places.tables(table), weights, strict=True)
    )
    for other in others:
        total = total + other
    return total


def _dots(table: Tensor, places: Places, weights: Corners, grad: Tensor) -> Corners:
    """Scalar products of every sample's four pixels with its bag's gradient."""
    if table.is_cuda:
        with torch.enable_grad():
            leaves = tuple(weight.detach().requires_grad_() for weight in weights)
            return torch.autograd.grad(_weighted_rows(table, places, leaves), leaves, grad)
    return tuple(
        products_at(index, grad, part)
        for index, part in zip(places.rows, places.tables(table), strict=True)
    )


def _scatter_rows(out: Tensor, grad: Tensor, places: Places, weights: Corners) -> None:
    """Add to ``out`` the gradient of the table that :func:`_weighted_rows` read."""
    rows, order = places.upper.flatten().sort(stable=True)
    rows, counts = torch.unique_consecutive(rows, return_counts=True)
    ends = F.pad(counts.cumsum(0), (1, 0))
    bags = order.int() // places.upper.shape[1]
    lower = places.lower.flatten()[order[ends[:-1]]].long()
    rows = rows.long()  # twice as fast as int32 in index_add_
    corners = (rows, rows + places.step, lower, lower + places.step)
    ends = ends.int()
    for corner, weight in zip(corners, weights, strict=True):
        sums = F.embedding_bag(
            bags,
            grad,
            ends,
            per_sample_weights=weight.flatten().index_select(0, order),
            mode="sum",
            include_last_offset=True,
        )
        out.index_add_(0, corner, sums)


def _rows(tensor: Tensor) -> Tensor:
    """(B, N, groups, k) as (B * N * groups, k)."""
    return tensor.view(-1, tensor.shape[-1])


def _blocks(samples: Tensor) -> Iterator[slice]:
    """Slices of the images; none where there are no samples."""
    budget = SAMPLES_CPU if samples.device.type == "cpu" else SAMPLES_GPU
    step = max(1, budget // max(1, samples.shape[1:].numel()))
    for start in range(0, len(samples) if samples.numel() else 0, step):
        yield slice(start, start + step)


def _at_least_two_wide(
    value: Tensor, shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, tuple[tuple[int, int], ...]]:
    """Zeros added right of and below maps with a side of one pixel, so four pixels exist."""
    if all(min(shape) > 1 for shape in shapes):
        return value, tuple(shapes)
    maps = []
    for part, (height, width) in zip(
        value.split([height * width for height, width in shapes], dim=1), shapes, strict=True
    ):
        padding = (0, 0, 0, 0, 0, max(0, 2 - width), 0, max(0, 2 - height))
        maps.append(F.pad(part.unflatten(1, (height, width)), padding).flatten(1, 2))
    return torch.cat(maps, 1), tuple((max(2, height), max(2, width)) for height, width in shapes)


def _check(
    value: Tensor, shapes: Sequence[tuple[int, int]], places: Tensor, weight: Tensor
) -> None:
    tokens = sum(height * width for height, width in shapes)
    if value.ndim != 4 or value.shape[1] != tokens:
        raise ValueError(
            f"value of shape {tuple(value.shape)} does not hold maps of {list(shapes)}; "
            f"expected (B, {tokens}, groups, d)"
        )
    batch, _, groups, _ = value.shape
    if weight.ndim != 5 or places.shape != (2, *weight.shape):
        raise ValueError("x, y and weight must share one shape (B, N, groups, maps, points)")
    if (weight.shape[0], *weight.shape[2:4]) != (batch, groups, len(shapes)):
        raise ValueError(
            f"samples of shape {tuple(weight.shape)} do not fit the value; "
            f"expected ({batch}, N, {groups}, {len(shapes)}, points)"
        )

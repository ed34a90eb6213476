"""Weighted sums of bilinear samples, the common core of the deformable operations.

The usual formulation samples with ``grid_sample`` and multiplies by the weights afterwards, which
keeps d channels of every sample. Here a sample is four weighted rows of ``value``, and
``embedding_bag`` sums weighted rows without keeping any. The gradient of ``value`` is the same sum
with rows and bags exchanged. Both directions are deterministic.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detector.network.ops.framed_maps import FramedMaps, Samples
from detector.network.ops.grids import grid_sampled_sum
from detector.network.ops.sampled_products import products_at
from detector.network.ops.scattered_rows import scattered_rows

Implementation = Literal["bags", "grid"]

# Samples computed at once, of one image or more; each needs about a hundred bytes. On the CPU
# temporaries near the cache's size are fastest, a GPU wants few, large kernels.
SAMPLES_CPU = 1 << 15
SAMPLES_GPU = 1 << 23
# Channels of an image's samples that may be kept for the backward pass, on a GPU: 256 MiB. Of one
# image, so that the batch does not decide.
KEPT = 1 << 26
# Samples of which bags keep pixels and weights for the backward pass, in 40 MiB; those of larger
# calls are found again, to the same bits.
KEPT_SAMPLES = 1 << 20


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
    # Each group by itself, as its pixels will be.
    places = places.to(dtype).flatten(4).transpose(2, 3).flatten(1, 2)
    weight = weight.to(dtype).flatten(3).transpose(1, 2).flatten(0, 1)
    out: Tensor = _BilinearSum.apply(
        value.to(dtype), tuple(shapes), places.contiguous(), weight.contiguous()
    )
    return out.unflatten(0, value.shape[::2]).transpose(1, 2).to(value.dtype)


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
    for an encoder's many samples, of which it keeps too much. It is also what every device has.
    """
    same_bits = torch.are_deterministic_algorithms_enabled() and torch.is_grad_enabled()
    few = weight.shape[1:].numel() * value.shape[3] <= KEPT
    return "grid" if few and not value.is_cpu and not same_bits else "bags"


class _BilinearSum(torch.autograd.Function):
    """Of places (2, B * groups, N, samples), to (B * groups, N, d)."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, shapes: tuple[tuple[int, int], ...], places: Tensor, weight: Tensor
    ) -> Tensor:
        maps = FramedMaps(shapes)
        table = maps.table(value)
        few = any(ctx.needs_input_grad) and weight.numel() <= KEPT_SAMPLES
        kept: list[Tensor] = []
        out = value.new_empty(*weight.shape[:2], value.shape[3])
        for part, rows, samples in _samples(maps, table, places, weight):
            out[part] = _weighted_rows(rows, samples).view(-1, *out.shape[1:])
            if few:
                kept += samples
        ctx.save_for_backward(table, places, weight, *kept)
        ctx.maps = maps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        table, places, weight, *kept = ctx.saved_tensors
        maps: FramedMaps = ctx.maps
        for_value, _, *for_samples = ctx.needs_input_grad
        grad_table = (torch.empty_like if weight.numel() else torch.zeros_like)(table)
        grad_places, grad_weight = torch.empty_like(places), torch.empty_like(weight)
        for part, rows, samples in _samples(maps, table, places, weight, kept):
            bags = grad[part].flatten(0, 1).contiguous()
            if for_value:
                sums = scattered_rows(len(rows), samples.pixels, samples.weights, bags)
                if sums.numel() == table.numel():  # all at once
                    grad_table = sums.view_as(table)
                else:
                    grad_table.flatten(0, 1)[part] = sums.view(-1, *table.shape[2:])
            if any(for_samples):
                dots = _dots(rows, samples, bags)
                samples.gradients(dots, *grad_places[:, part], grad_weight[part])
        return maps.pixels(grad_table) if for_value else None, None, grad_places, grad_weight


def _samples(
    maps: FramedMaps, table: Tensor, places: Tensor, weight: Tensor, kept: Sequence[Tensor] = ()
) -> Iterator[tuple[slice, Tensor, Samples]]:
    """Those of some images and groups at once, with their rows of the table: ``kept`` or found."""
    placed = None if kept else maps.places(weight)
    fields = len(Samples._fields)
    for i, (part, rows) in enumerate(_blocks(weight, table)):
        if placed is None:
            samples = Samples(*kept[i * fields : (i + 1) * fields])
        else:
            samples = placed.samples(places[:, part], weight[part])
        yield part, rows, samples


def _weighted_rows(table: Tensor, samples: Samples) -> Tensor:
    """(bags, d): sums over the four pixels of a bag's samples."""
    return F.embedding_bag(samples.pixels, table, per_sample_weights=samples.weights, mode="sum")


def _dots(table: Tensor, samples: Samples, grad: Tensor) -> Tensor:
    """Scalar products of the pixels that :func:`_weighted_rows` sums with their bag's gradient."""
    if table.is_cpu:
        return products_at(samples.pixels, grad, table)
    with torch.enable_grad():
        leaf = samples.weights.detach().requires_grad_()
        sums = _weighted_rows(table, samples._replace(weights=leaf))
        (dots,) = torch.autograd.grad(sums, leaf, grad)
    return dots


def _blocks(samples: Tensor, table: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some images and groups at once, and their rows of the table; none without samples."""
    budget = SAMPLES_CPU if samples.device.type == "cpu" else SAMPLES_GPU
    step = max(1, budget // max(1, samples.shape[1:].numel()))
    rows = table.flatten(0, 1)
    for start in range(0, len(samples) if samples.numel() else 0, step):
        yield slice(start, start + step), rows[start : start + step].flatten(0, 1)


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

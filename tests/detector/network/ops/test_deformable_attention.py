"""Multi-scale deformable attention against a loop over samples and against grid_sample."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detector.network.ops import bilinear
from detector.network.ops.bilinear import Implementation
from detector.network.ops.deformable_attention import multi_scale_deformable_attention


def attend(
    value: Tensor,
    shapes: list[tuple[int, int]],
    locations: Tensor,
    weights: Tensor,
    implementation: Implementation | None = None,
) -> Tensor:
    """With samples at places relative to the levels' edges, as offsets from their corner."""
    size = torch.tensor([(width, height) for height, width in shapes], device=value.device)
    corner = torch.zeros(1, locations.shape[1], 2, device=value.device)
    offsets = locations.to(torch.promote_types(locations.dtype, torch.float32)) * size[:, None]
    return multi_scale_deformable_attention(value, shapes, corner, offsets, weights, implementation)


SHAPES = [(2, 3), (4, 6), (7, 5)]
side = st.integers(1, 6)


def loop(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    batch, _, heads, channels = value.shape
    _, queries, _, levels, points = weights.shape
    out = torch.zeros(batch, queries, heads, channels, dtype=value.dtype)
    starts = [sum(h * w for h, w in shapes[:level]) for level in range(levels)]
    for b, q, head, level, point in torch.cartesian_prod(
        *(torch.arange(n) for n in (batch, queries, heads, levels, points))
    ).tolist():
        height, width = shapes[level]
        x = locations[b, q, head, level, point, 0].item() * width - 0.5
        y = locations[b, q, head, level, point, 1].item() * height - 0.5
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                    pixel = value[b, starts[level] + row * width + column, head]
                    out[b, q, head] += weights[b, q, head, level, point] * share * pixel
    return out.flatten(2)


def grid_sampled(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    batch, _, heads, channels = value.shape
    total = value.new_zeros(batch * heads, channels, locations.shape[1])
    parts = value.split([height * width for height, width in shapes], dim=1)
    for level, ((height, width), part) in enumerate(zip(shapes, parts, strict=True)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        samples = F.grid_sample(maps, grid, align_corners=False)
        level_weights = weights[:, :, :, level].transpose(1, 2).flatten(0, 1).unsqueeze(1)
        total = total + (samples * level_weights).sum(-1)
    return total.view(batch, heads * channels, -1).transpose(1, 2)


def inputs(
    batch: int,
    shapes: list[tuple[int, int]],
    queries: int,
    heads: int = 2,
    points: int = 2,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Locations reach a quarter of the map beyond each border."""
    generator = torch.Generator().manual_seed(seed)
    tokens = sum(height * width for height, width in shapes)
    sizes = (batch, queries, heads, len(shapes), points)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    value = uniform(batch, tokens, heads, 3) - 0.5
    locations = 1.5 * uniform(*sizes, 2) - 0.25
    weights = uniform(*sizes).flatten(3).softmax(-1).view(sizes)
    return value.requires_grad_(), locations.requires_grad_(), weights.requires_grad_()


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 2),
    shapes=st.lists(st.tuples(side, side), min_size=1, max_size=3),
    queries=st.integers(1, 4),
    heads=st.integers(1, 3),
    points=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_the_loop(
    batch: int, shapes: list[tuple[int, int]], queries: int, heads: int, points: int, seed: int
) -> None:
    value, locations, weights = inputs(batch, shapes, queries, heads, points, seed)
    out = attend(value, shapes, locations, weights)
    assert out.shape == (batch, queries, heads * 3)
    torch.testing.assert_close(out, loop(value, shapes, locations, weights))


@pytest.mark.parametrize("implementation", ["bags", "grid"])
@pytest.mark.parametrize("queries", [3, 200])  # fewer and more samples than pixels
def test_equals_grid_sample_with_all_gradients(
    queries: int, implementation: Implementation
) -> None:
    value, locations, weights = tensors = inputs(2, SHAPES, queries)
    out = attend(value, SHAPES, locations, weights, implementation)
    expected = grid_sampled(value, SHAPES, locations, weights)
    torch.testing.assert_close(out, expected)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    torch.testing.assert_close(
        torch.autograd.grad(out, tensors, grad), torch.autograd.grad(expected, tensors, grad)
    )


@pytest.mark.parametrize("queries", [2, 40])
def test_gradients_pass_gradcheck(queries: int) -> None:
    def run(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return attend(value, SHAPES, locations, weights)

    assert torch.autograd.gradcheck(run, inputs(1, SHAPES, queries, points=1), fast_mode=True)


def test_a_pixel_center_gives_the_pixel() -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1)
    centers = torch.tensor([[(x + 0.5) / 3, (y + 0.5) / 2] for y in range(2) for x in range(3)])
    locations = centers.view(1, 6, 1, 1, 1, 2)
    out = attend(value, [(2, 3)], locations, torch.ones(1, 6, 1, 1, 1))
    torch.testing.assert_close(out.flatten(), torch.arange(6.0))


@pytest.mark.parametrize("implementation", ["bags", "grid"])
@pytest.mark.parametrize("far", [-1.0, 2.0, 1e9, -math.inf])
def test_samples_off_the_map_are_exactly_zero(far: float, implementation: Implementation) -> None:
    value, locations, weights = tensors = inputs(1, SHAPES, 4)
    locations.data[..., 1] = far
    out = attend(value, SHAPES, locations, weights, implementation)
    assert out.count_nonzero() == 0
    assert all(grad.count_nonzero() == 0 for grad in torch.autograd.grad(out.sum(), tensors))


def test_images_and_queries_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    value, locations, weights = inputs(3, SHAPES, 30)
    together = attend(value, SHAPES, locations, weights)

    def one(b: int, q: int) -> torch.Tensor:
        own = slice(b, b + 1), slice(q, q + 1)
        return attend(value[b : b + 1], SHAPES, locations[own], weights[own])[0]

    alone = torch.stack([torch.cat([one(b, q) for q in range(30)]) for b in range(3)])
    torch.testing.assert_close(together, alone)

    def gradients(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(out.square().sum(), (value, locations, weights))

    of_all = gradients(together)
    monkeypatch.setattr(bilinear, "SAMPLES_CPU", 100)  # a block holds one image
    blockwise = attend(value, SHAPES, locations, weights)
    torch.testing.assert_close(blockwise, together)
    torch.testing.assert_close(gradients(blockwise), of_all)


@pytest.mark.parametrize("samples", [1 << 15, 100])  # of a block
def test_gradients_of_kept_samples_are_those_of_samples_found_again(
    samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bilinear, "SAMPLES_CPU", samples)
    tensors = inputs(3, SHAPES, 30)
    every = []
    for most in (bilinear.KEPT_SAMPLES, 0):
        monkeypatch.setattr(bilinear, "KEPT_SAMPLES", most)
        value, locations, weights = tensors
        out = attend(value, SHAPES, locations, weights)
        every.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for kept, found in zip(*every, strict=True):
        assert kept.equal(found)


def test_repeats_bit_for_bit() -> None:
    tensors = [t.detach().float().requires_grad_() for t in inputs(2, [(30, 30), (15, 15)], 500)]

    def run() -> tuple[Tensor, ...]:
        value, locations, weights = tensors
        out = attend(value, [(30, 30), (15, 15)], locations, weights)
        return out, *torch.autograd.grad(out.square().sum(), tensors)

    assert all(first.equal(second) for first, second in zip(run(), run(), strict=True))


def test_only_what_needs_a_gradient_gets_one() -> None:
    value, locations, weights = (tensor.detach() for tensor in inputs(1, SHAPES, 5))
    value.requires_grad_()
    attend(value, SHAPES, locations, weights).sum().backward()
    alone = value.grad
    value.grad = None
    locations.requires_grad_()
    attend(value, SHAPES, locations, weights).sum().backward()
    assert alone is not None
    assert value.grad is not None
    assert alone.equal(value.grad)


@pytest.mark.parametrize("implementation", ["bags", "grid"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_float32(dtype: torch.dtype, implementation: Implementation) -> None:
    value, locations, weights = (tensor.detach().to(dtype) for tensor in inputs(1, SHAPES, 20))
    out = attend(value, SHAPES, locations, weights, implementation)
    assert out.dtype == dtype
    expected = attend(value.float(), SHAPES, locations.float(), weights.float())
    torch.testing.assert_close(out, expected.to(dtype))


@pytest.mark.parametrize(("batch", "queries"), [(0, 5), (2, 0)])
def test_no_images_or_no_queries_give_an_empty_result(batch: int, queries: int) -> None:
    value, locations, weights = tensors = inputs(batch, SHAPES, queries)
    out = attend(value, SHAPES, locations, weights)
    assert out.shape == (batch, queries, 6)
    for tensor, grad in zip(tensors, torch.autograd.grad(out.sum(), tensors), strict=True):
        assert grad.shape == tensor.shape
        assert grad.count_nonzero() == 0


def test_refuses_shapes_that_do_not_fit() -> None:
    value, locations, weights = inputs(1, SHAPES, 5)
    with pytest.raises(ValueError, match=r"expected \(B, 30, groups, d\)"):
        attend(value, SHAPES[:2], locations[:, :, :, :2], weights[:, :, :, :2])
    with pytest.raises(ValueError, match=r"expected \(1, N, 2, 3, points\)"):
        attend(value, SHAPES, locations[:, :, :1], weights[:, :, :1])
    with pytest.raises(ValueError, match=r"expected \(B, N, heads, 3, points, 2\)"):
        multi_scale_deformable_attention(
            value, SHAPES, torch.zeros(1, 5, 2), locations[:, :, :, :2], weights
        )
    with pytest.raises(ValueError, match="must share one shape"):
        attend(value, SHAPES, locations, weights[:, :4])


@pytest.mark.parametrize("implementation", ["bags", "grid"])
def test_where_a_sample_is_unknown_its_sum_is_too(implementation: Implementation) -> None:
    value, locations, weights = inputs(1, SHAPES, 4)
    locations.data[0, 2, 1, 0, 0, 0] = math.nan
    out = attend(value, SHAPES, locations, weights, implementation)
    assert out.isnan().nonzero().tolist() == [[0, 2, channel] for channel in (3, 4, 5)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("implementation", ["bags", "grid"])
def test_a_gpu_computes_what_the_cpu_does(
    implementation: Implementation, dtype: torch.dtype, most: float
) -> None:
    """Locations stay in float32, as in the network, and away from pixel centers, where the slope
    jumps: rounding alone would choose its side."""
    value, locations, weights = (tensor.detach() for tensor in inputs(2, SHAPES, 300))
    size = torch.tensor([(width, height) for height, width in SHAPES])[:, None]
    pixels = locations * size - 0.5
    pixels = pixels.floor() + (pixels - pixels.floor()).clamp(0.01, 0.99)
    locations = (pixels + 0.5) / size
    inexact = [value.to(dtype), locations.float(), weights.to(dtype)]
    results = []
    for device, name in (("cuda", implementation), ("cpu", "bags")):
        tensors = [
            (tensor if device == "cuda" else tensor.double()).to(device).requires_grad_()
            for tensor in inexact
        ]
        value, locations, weights = tensors
        out = attend(value, SHAPES, locations, weights, name)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        found = (out, *torch.autograd.grad(out, tensors, grad))
        results.append([tensor.detach().cpu().double() for tensor in found])
    for ours, exact in zip(*results, strict=True):
        assert (ours - exact).norm() < most * exact.norm()

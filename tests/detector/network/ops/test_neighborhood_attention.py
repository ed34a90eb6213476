"""Neighborhood attention against a loop over pixels, in every way it can be tiled."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detector.network.ops import neighborhood_attention as module
from detector.network.ops.neighborhood_attention import (
    Implementation,
    fused_attention,
    neighborhood_attention,
    tiled_attention,
)
from detector.network.ops.tiling import Tiling
from detector.network.ops.unfolding import Unfolding

kernels = st.sampled_from([3, 5, 7])


def loop(query: Tensor, key: Tensor, value: Tensor, kernel: int, bias: Tensor) -> Tensor:
    """Each query with its own kernel x kernel keys, one after the other."""
    _, _, height, width, _ = query.shape
    rows = []
    for i in range(height):
        top = min(max(i - kernel // 2, 0), height - kernel)
        row = []
        for j in range(width):
            left = min(max(j - kernel // 2, 0), width - kernel)
            keys = key[:, :, top : top + kernel, left : left + kernel].flatten(2, 3)
            values = value[:, :, top : top + kernel, left : left + kernel].flatten(2, 3)
            down, right = top - i + kernel - 1, left - j + kernel - 1
            near = bias[:, down : down + kernel, right : right + kernel].flatten(1)
            logits = (keys @ query[:, :, i, j, :, None]).squeeze(-1) + near
            row.append((logits.softmax(-1).unsqueeze(-2) @ values).squeeze(-2))
        rows.append(torch.stack(row, dim=2))
    return torch.stack(rows, dim=2)


def inputs(
    batch: int, heads: int, height: int, width: int, kernel: int, seed: int = 0, channels: int = 3
) -> list[Tensor]:
    """Query, key, value and bias in float64; the first three share one projection's memory."""
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randn(
        batch, height, width, 3, heads, channels, generator=generator, dtype=torch.float64
    )
    side = 2 * kernel - 1
    bias = torch.randn(heads, side, side, generator=generator, dtype=torch.float64)
    maps = packed.permute(3, 0, 4, 1, 2, 5).unbind()
    return [tensor.detach().requires_grad_() for tensor in (*maps, bias)]


def gradients(out: Tensor, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    # Versions of torch draw other numbers in other types.
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    return torch.autograd.grad(out, tensors, grad.to(out.dtype))


@settings(deadline=None, max_examples=30)
@given(
    kernel=kernels,
    beyond=st.tuples(st.integers(0, 14), st.integers(0, 14)),
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_the_loop_with_all_gradients(
    kernel: int, beyond: tuple[int, int], batch: int, heads: int, seed: int
) -> None:
    height, width = kernel + beyond[0], kernel + beyond[1]
    query, key, value, bias = tensors = inputs(batch, heads, height, width, kernel, seed)
    out = neighborhood_attention(query, key, value, kernel=kernel, bias=bias)
    expected = loop(query, key, value, kernel, bias)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradients(out, tensors), gradients(expected, tensors))


@settings(deadline=None, max_examples=30)
@given(
    kernel=kernels,
    beyond=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    tile=st.integers(1, 30),
)
def test_every_tiling_gives_the_same(kernel: int, beyond: tuple[int, int], tile: int) -> None:
    height, width = kernel + beyond[0], kernel + beyond[1]
    query, key, value, bias = tensors = inputs(1, 2, height, width, kernel)
    dense = Tiling.of(height, width, kernel, tile=max(height, width))
    assert len(dense.rows.starts) == len(dense.columns.starts) == 1
    expected = tiled_attention(query, key, value, bias, dense)
    out = tiled_attention(query, key, value, bias, Tiling.of(height, width, kernel, tile))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradients(out, tensors), gradients(expected, tensors))


def test_windows_shift_at_borders_and_stay_whole() -> None:
    query = torch.zeros(1, 1, 3, 6, 1)
    columns = torch.arange(6.0).expand(3, 6).reshape(1, 1, 3, 6, 1)
    out = neighborhood_attention(query, query, columns, kernel=3)
    # The mean column of windows 0-2, 0-2, 1-3, 2-4, 3-5, 3-5.
    assert out[0, 0, 1, :, 0].tolist() == pytest.approx([1, 1, 2, 3, 4, 4])


def test_bias_is_indexed_by_key_minus_query() -> None:
    kernel, height, width = 3, 5, 4
    query = torch.zeros(1, 1, height, width, 1)
    pixel = torch.arange(float(height * width)).view(1, 1, height, width, 1)
    bias = torch.zeros(1, 2 * kernel - 1, 2 * kernel - 1)
    bias[0, 2 + 1, 2 - 1] = 1000.0  # one down, one to the left
    out = neighborhood_attention(query, query, pixel, kernel=kernel, bias=bias)
    assert out[0, 0, 2, 2, 0] == pixel[0, 0, 3, 1, 0]


@pytest.mark.parametrize("tile", [4, 9])
def test_gradients_pass_gradcheck(tile: int) -> None:
    query, key, value, bias = inputs(2, 2, 9, 5, kernel=3, channels=2)
    tiling = Tiling.of(9, 5, 3, tile)

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        return tiled_attention(q, k, v, bias, tiling)

    assert torch.autograd.gradcheck(run, (query, key, value, bias))
    assert torch.autograd.gradcheck(run, (query, key, value))


def test_images_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value, bias = inputs(5, 2, 20, 17, kernel=7)
    together = neighborhood_attention(query, key, value, kernel=7, bias=bias)
    alone = [
        neighborhood_attention(*(t[i : i + 1] for t in (query, key, value)), kernel=7, bias=bias)
        for i in range(5)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    tensors = [query, key, value, bias]
    expected = gradients(together, tensors)
    for pairs in (4, 1):  # two images at a time, one head at a time
        monkeypatch.setattr(module, "LOGITS_CPU", pairs * Tiling.of(20, 17, 7).logits)
        blockwise = neighborhood_attention(query, key, value, kernel=7, bias=bias)
        torch.testing.assert_close(blockwise, together)
        torch.testing.assert_close(gradients(blockwise, tensors), expected)


def test_repeats_bit_for_bit() -> None:
    tensors = [t.detach().float().requires_grad_() for t in inputs(2, 4, 20, 20, kernel=7)]

    def run() -> tuple[Tensor, ...]:
        out = neighborhood_attention(*tensors[:3], kernel=7, bias=tensors[3])
        return out, *gradients(out, tensors)

    assert all(first.equal(second) for first, second in zip(run(), run(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_float32(dtype: torch.dtype) -> None:
    single = [t.detach().float().requires_grad_() for t in inputs(1, 2, 12, 20, 7, channels=16)]
    half = [t.detach().to(dtype).requires_grad_() for t in single[:3]]
    bias = single[3].detach().requires_grad_()
    expected = neighborhood_attention(*single[:3], kernel=7, bias=single[3])
    out = neighborhood_attention(*half, kernel=7, bias=bias)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, atol=0.06, rtol=0.05)
    for ours, theirs in zip(
        gradients(out, [*half, bias]), gradients(expected, single), strict=True
    ):
        error = (ours.float() - theirs).norm() / theirs.norm()
        assert error < 0.03


@pytest.mark.parametrize("implementation", ["tiled", "sdpa"])
def test_an_empty_batch_has_an_empty_result(implementation: Implementation) -> None:
    query, key, value, bias = tensors = inputs(0, 2, 9, 9, kernel=3)
    out = neighborhood_attention(
        query, key, value, kernel=3, bias=bias, implementation=implementation
    )
    assert out.shape == (0, 2, 9, 9, 3)
    assert gradients(out, tensors)[3].count_nonzero() == 0


@pytest.mark.parametrize("kernel", [4, 9])
def test_refuses_a_kernel_that_is_even_or_larger_than_the_map(kernel: int) -> None:
    query, key, value, _ = inputs(1, 1, 12, 8, kernel=3)
    with pytest.raises(ValueError, match=f"kernel {kernel} on a map of 12 x 8; expected an odd"):
        neighborhood_attention(query, key, value, kernel=kernel)


def test_refuses_a_bias_of_another_kernel() -> None:
    query, key, value, bias = inputs(1, 2, 8, 8, kernel=3)
    with pytest.raises(ValueError, match=r"expected \(2, 9, 9\)"):
        neighborhood_attention(query, key, value, kernel=5, bias=bias)


def dropped(*tensors: Tensor, rate: float = 0.4, seed: int = 3) -> Tensor:
    query, key, value, bias = tensors
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return neighborhood_attention(query, key, value, kernel=3, bias=bias, dropout=rate)


def test_dropout_is_differentiated_through_the_masks_of_its_forward_pass() -> None:
    assert torch.autograd.gradcheck(dropped, inputs(2, 2, 4, 5, 3))


def test_dropout_drops_attention_weights_at_its_rate_and_scales_the_others() -> None:
    query, key, value, bias = (x.detach() for x in inputs(2, 2, 12, 12, 3, channels=4))
    value = torch.ones_like(value)  # then the output is the sum of the weights that are left
    query, bias = torch.zeros_like(query), torch.zeros_like(bias)  # and each of them 1/9
    out = dropped(query, key, value, bias)
    left = (out[..., 0] * 9 * 0.6).round()
    torch.testing.assert_close(out[..., 0], left / 9 / 0.6)
    assert left.mean().item() == pytest.approx(9 * 0.6, abs=0.2)
    # Weights are dropped independently: the number left is binomial.
    assert left.var().item() == pytest.approx(9 * 0.6 * 0.4, rel=0.2)
    assert not torch.equal(out, dropped(query, key, value, bias, seed=4))
    assert torch.equal(out, dropped(query, key, value, bias))


@settings(deadline=None, max_examples=30)
@given(
    kernel=kernels,
    beyond=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    tile=st.none() | st.integers(1, 30),
    with_bias=st.booleans(),
)
def test_every_unfolding_gives_the_same(
    kernel: int, beyond: tuple[int, int], tile: int | None, with_bias: bool
) -> None:
    height, width = kernel + beyond[0], kernel + beyond[1]
    tensors = inputs(2, 2, height, width, kernel)[: 3 + with_bias]
    query, key, value, bias = (*tensors, None)[:4]
    expected = neighborhood_attention(query, key, value, kernel=kernel, bias=bias)
    if tile:
        unfolding = Unfolding.of(height, width, kernel, tile)
        out = fused_attention(query, key, value, bias, unfolding)
    else:
        out = neighborhood_attention(
            query, key, value, kernel=kernel, bias=bias, implementation="sdpa"
        )
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradients(out, tensors), gradients(expected, tensors))


@pytest.mark.skipif(module._natten() is not None, reason="natten for CUDA is installed")
def test_natten_that_is_not_installed_is_refused() -> None:
    query, key, value, _ = inputs(1, 2, 9, 9, kernel=3)
    with pytest.raises(ValueError, match="not installed"):
        neighborhood_attention(query, key, value, kernel=3, implementation="natten")


def on_gpu(
    dtype: torch.dtype, implementation: Implementation, channels: int = 32
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients on the GPU in ``dtype``, and of the same numbers in float64 here."""
    inexact = [
        tensor.detach().to(dtype) for tensor in inputs(2, 2, 24, 20, kernel=7, channels=channels)
    ]
    results = []
    for device, kind, name in (("cuda", dtype, implementation), ("cpu", torch.float64, "tiled")):
        tensors = [tensor.to(device, kind).requires_grad_() for tensor in inexact]
        out = neighborhood_attention(*tensors[:3], kernel=7, bias=tensors[3], implementation=name)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        found = (out, *torch.autograd.grad(out, tensors, grad))
        results.append([tensor.detach().cpu().double() for tensor in found])
    return results[0], results[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("implementation", ["tiled", "sdpa", "natten"])
def test_a_gpu_computes_what_the_cpu_does(
    implementation: Implementation, dtype: torch.dtype, most: float
) -> None:
    if implementation == "natten" and module._natten() is None:
        pytest.skip("natten up to 0.17, the last with a bias, is not installed for CUDA")
    for ours, exact in zip(*on_gpu(dtype, implementation), strict=True):
        assert (ours - exact).norm() < most * exact.norm()

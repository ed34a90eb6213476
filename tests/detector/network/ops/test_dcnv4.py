"""The deformable convolution against a loop written from its formulas."""

import math
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detector.network.ops import dcnv4 as module
from detector.network.ops.dcnv4 import Implementation, dcnv4


def loop(
    value: Tensor,
    offset_mask: Tensor,
    groups: int,
    kernel: int,
    offset_scale: float,
    grid_scale: float,
) -> Tensor:
    """One tap after the other; offset_mask laid out as the DCNv4 kernel reads it."""
    batch, height, width, channels = value.shape
    taps, depth = kernel * kernel, channels // groups
    padding = half = (kernel - 1) >> 1
    out = []
    for b, row, column, g in torch.cartesian_prod(
        *(torch.arange(n) for n in (batch, height, width, groups))
    ).tolist():
        learned = offset_mask[b, row, column, g * 3 * taps : (g + 1) * 3 * taps]
        total = 0 * value[b, row, column, g * depth : (g + 1) * depth]
        origin_x, origin_y = half - padding + column, half - padding + row
        for i in range(kernel):
            for j in range(kernel):
                tap = i * kernel + j
                dx, dy, weight = learned[2 * tap], learned[2 * tap + 1], learned[2 * taps + tap]
                x = origin_x - half * grid_scale + i * grid_scale + dx * offset_scale
                y = origin_y - half * grid_scale + j * grid_scale + dy * offset_scale
                if -1 < x < width and -1 < y < height:
                    channels_of_group = value[b, :, :, g * depth : (g + 1) * depth]
                    total = total + weight * bilinear(channels_of_group, x, y)
        out.append(total)
    return torch.stack(out).view(batch, height, width, channels)


def bilinear(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(H, W, c) at (x, y); what lies outside is zero."""
    height, width, _ = image.shape
    left, top = math.floor(x.detach()), math.floor(y.detach())
    total = torch.zeros(image.shape[2], dtype=image.dtype)
    for row, row_share in ((top, top + 1 - y), (top + 1, y - top)):
        for column, column_share in ((left, left + 1 - x), (left + 1, x - left)):
            if 0 <= row < height and 0 <= column < width:
                total = total + row_share * column_share * image[row, column]
    return total


def inputs(
    batch: int, height: int, width: int, groups: int, kernel: int = 3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two channels per group, offsets of about two pixels; the last five outputs are padding."""
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(batch, height, width, 2 * groups, generator=generator, dtype=torch.float64)
    learned = 3 * groups * kernel**2
    offset_mask = 2 * torch.randn(
        batch, height, width, learned + 5, generator=generator, dtype=torch.float64
    )
    return value.requires_grad_(), offset_mask.requires_grad_()


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 2),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    groups=st.integers(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    offset_scale=st.sampled_from([0.1, 1.0]),
    grid_scale=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 2**31),
)
def test_equals_the_loop_with_all_gradients(
    batch: int,
    height: int,
    width: int,
    groups: int,
    kernel: int,
    offset_scale: float,
    grid_scale: float,
    seed: int,
) -> None:
    value, offset_mask = tensors = inputs(batch, height, width, groups, kernel, seed)
    out = dcnv4(
        value,
        offset_mask,
        groups=groups,
        kernel=kernel,
        offset_scale=offset_scale,
        grid_scale=grid_scale,
    )
    expected = loop(value, offset_mask, groups, kernel, offset_scale, grid_scale)
    torch.testing.assert_close(out, expected)
    grad = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    torch.testing.assert_close(
        torch.autograd.grad(out, tensors, grad),
        torch.autograd.grad(expected, tensors, grad, materialize_grads=True),
    )


def test_whole_pixel_offsets_have_the_same_gradients_too() -> None:
    """Where the slope jumps it is the one to the right; one pixel outside it is zero. ("grid" has
    that of either side, as its coordinates are rounded.)"""
    value, offset_mask = tensors = inputs(1, 4, 4, 1)
    offset_mask.data.round_()
    out = dcnv4(value, offset_mask, groups=1)
    expected = loop(value, offset_mask, 1, 3, 1.0, 1.0)
    torch.testing.assert_close(
        torch.autograd.grad(out.square().sum(), tensors),
        torch.autograd.grad(expected.square().sum(), tensors),
    )


def test_without_offsets_it_is_a_depthwise_convolution_with_columns_outermost() -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 6, 7, 4, generator=generator)
    weights = torch.randn(2, 9, generator=generator)  # of two groups
    offset_mask = torch.cat((torch.zeros(2, 18), weights), dim=1).flatten().expand(2, 6, 7, -1)
    out = dcnv4(value, offset_mask, groups=2)
    by_row_and_column = weights.view(2, 3, 3).mT.repeat_interleave(2, dim=0).unsqueeze(1)
    expected = F.conv2d(value.permute(0, 3, 1, 2), by_row_and_column, padding=1, groups=4)
    torch.testing.assert_close(out, expected.permute(0, 2, 3, 1))


def test_the_thesis_scale_shrinks_the_grid_to_a_tenth_of_a_pixel() -> None:
    value = torch.arange(5.0).expand(5, 5).reshape(1, 5, 5, 1)  # a pixel's column
    offset_mask = torch.zeros(1, 5, 5, 27)
    offset_mask[..., 18 + 2 * 3 + 1] = 1.0  # the tap right of the center
    out = dcnv4(value, offset_mask, groups=1, offset_scale=0.1, grid_scale=0.1)
    assert out[0, 2, :, 0].tolist() == pytest.approx([0.1, 1.1, 2.1, 3.1, 4 * 0.9])
    offset_mask[..., 2 * 7] = 10.0  # moves it one pixel to the right
    out = dcnv4(value, offset_mask, groups=1, offset_scale=0.1, grid_scale=0.1)
    assert out[0, 2, :, 0].tolist() == pytest.approx([1.1, 2.1, 3.1, 4 * 0.9, 0.0])


def test_samples_off_the_map_are_exactly_zero() -> None:
    value, offset_mask = inputs(1, 4, 5, 1)
    for far in (-7.0, 7.0, 1e8, -math.inf, math.inf):
        offset_mask.data[..., 0:18:2] = far
        out = dcnv4(value, offset_mask, groups=1)
        assert out.count_nonzero() == 0
        grads = torch.autograd.grad(out.sum(), (value, offset_mask))
        assert all(grad.count_nonzero() == 0 for grad in grads)


def test_nan_offsets_make_nan_of_their_pixel_only() -> None:
    value, offset_mask = inputs(1, 4, 5, 1)
    offset_mask.data[0, 1, 2, 4] = math.nan
    out = dcnv4(value, offset_mask, groups=1)
    assert out[0, 1, 2].isnan().all()
    assert out.isnan().sum() == 2


def test_padding_is_ignored() -> None:
    value, offset_mask = inputs(1, 3, 4, 2)
    expected = dcnv4(value, offset_mask, groups=2)
    offset_mask.data[..., 54:] = math.nan
    assert dcnv4(value, offset_mask, groups=2).equal(expected)


def test_gradients_pass_gradcheck() -> None:
    def run(value: Tensor, offset_mask: Tensor) -> Tensor:
        return dcnv4(value, offset_mask, groups=2, offset_scale=0.7, grid_scale=0.3)

    assert torch.autograd.gradcheck(run, inputs(2, 3, 4, 2))


def test_images_do_not_see_each_other() -> None:
    value, offset_mask = inputs(3, 6, 5, 2)
    together = dcnv4(value, offset_mask, groups=2)
    alone = [dcnv4(value[i : i + 1], offset_mask[i : i + 1], groups=2) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_float32(dtype: torch.dtype) -> None:
    value, offset_mask = (tensor.detach().to(dtype) for tensor in inputs(1, 12, 12, 2))
    out = dcnv4(value, offset_mask, groups=2)
    assert out.dtype == dtype
    expected = dcnv4(value.float(), offset_mask.float(), groups=2)
    torch.testing.assert_close(out, expected.to(dtype))


def test_an_empty_batch_has_an_empty_result() -> None:
    value, offset_mask = inputs(0, 4, 4, 2)
    out = dcnv4(value, offset_mask, groups=2)
    assert out.shape == value.shape
    out.sum().backward()
    assert value.grad is not None
    assert value.grad.shape == value.shape


def test_refuses_shapes_that_do_not_fit() -> None:
    value, offset_mask = inputs(1, 4, 4, 2)
    with pytest.raises(ValueError, match="does not split into 3 groups"):
        dcnv4(value, offset_mask, groups=3)
    with pytest.raises(ValueError, match="kernel 2; expected an odd number"):
        dcnv4(value, offset_mask, groups=2, kernel=2)
    with pytest.raises(ValueError, match=r"expected \(B, H, W, 54 or more\)"):
        dcnv4(value, offset_mask[..., :50], groups=2)


def launch(batch: int, height: int, width: int, groups: int, channels: int) -> tuple[int, int]:
    """Channels per thread and threads per block of the DCNv4 package's forward kernel."""
    pixels = max(
        m
        for m in range(1, 65)
        if batch * height * width % m == 0 and m * groups * channels // 8 <= 512
    )
    return 8, pixels * groups * channels // 8


@pytest.mark.parametrize(
    ("batch", "side", "fits"),
    [(1, 60, True), (2, 60, False), (3, 60, True), (2, 120, True), (2, 64, True), (0, 60, False)],
)
def test_the_compiled_kernel_is_refused_where_its_blocks_would_straddle_images(
    batch: int, side: int, fits: bool
) -> None:
    package = ModuleType("dcnv4_func")
    vars(package).update(findspec=launch, find_spec_bwd=lambda *_: (1, 256))
    value = torch.zeros(batch, side, side, 128)
    offset_mask = torch.zeros(batch, side, side, 216)
    assert module._fits(package, value, offset_mask, 8, 3) is fits


@pytest.mark.parametrize(
    ("value", "learned", "expected"),
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.float32, torch.float16, torch.float32),  # as under autocast
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.float32),
        (torch.float16, torch.float16, torch.float16),
    ],
)
def test_the_compiled_kernel_gets_one_type_that_it_knows(
    value: torch.dtype, learned: torch.dtype, expected: torch.dtype
) -> None:
    package = ModuleType("dcnv4_func")
    vars(package).update(findspec=launch, find_spec_bwd=lambda *_: (1, 256))
    pixels, offset_mask = torch.zeros(1, 60, 60, 128), torch.zeros(1, 60, 60, 216)
    dtype = module._kernel_dtype(pixels.to(value), offset_mask.to(learned))
    assert dtype == expected
    assert module._fits(package, pixels.to(dtype), offset_mask.to(dtype), 8, 3)


def exact(
    inexact: tuple[Tensor, Tensor], device: str, implementation: Implementation | None
) -> tuple[Tensor, ...]:
    """The output and gradients of a device, in float64 on the CPU."""
    tensors = [tensor.detach().to(device).requires_grad_() for tensor in inexact]
    value, offset_mask = tensors
    out = dcnv4(
        value, offset_mask, groups=4, offset_scale=0.1, grid_scale=0.1,
        implementation=implementation,
    )  # fmt: skip
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    found = (out, *torch.autograd.grad(out, tensors, grad))
    return tuple(tensor.detach().cpu().double() for tensor in found)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("implementation", ["package", "bags", "grid"])
def test_a_gpu_computes_what_the_cpu_does(
    implementation: Implementation, dtype: torch.dtype, most: float
) -> None:
    if implementation == "package" and module._package() is None:
        pytest.skip("the DCNv4 package is not installed, or does not know this GPU")
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 32, 32, 64, generator=generator).to(dtype)
    offset_mask = torch.randn(2, 32, 32, 112, generator=generator).to(dtype)
    found = exact((value, offset_mask), "cuda", implementation)
    expected = exact((value.double(), offset_mask.double()), "cpu", "bags")
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() < most * theirs.norm()

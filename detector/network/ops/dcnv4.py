"""The sampling core of DCNv4 (Xiong et al. 2024): a convolution that moves its own taps."""

from functools import cache, partial
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from detector.network.ops.bilinear import bilinear_sum, sample_places

Implementation = Literal["package", "bags", "grid"]


def dcnv4(
    value: Tensor,
    offset_mask: Tensor,
    *,
    groups: int,
    kernel: int = 3,
    offset_scale: float = 1.0,
    grid_scale: float = 1.0,
    implementation: Implementation | None = None,
) -> Tensor:
    """Every pixel sums kernel x kernel bilinear samples around itself, with its own weights.

    Tap (i, j) of pixel (x, y), where i counts columns from 0 and j rows, samples at

        x + grid_scale * (i - kernel // 2) + offset_scale * dx
        y + grid_scale * (j - kernel // 2) + offset_scale * dy

    in pixels; outside the map the value is zero. The DCNv4 package has one scale for both terms.
    Stride 1, dilation 1, output of the input's size.

    Args:
        value: (B, H, W, C); group g owns the channels g * C / groups and following.
        offset_mask: (B, H, W, at least 3 * groups * kernel**2). Group by group, for the taps
            (0, 0), (0, 1), ... (with j running fastest) first all (dx, dy), then all weights, used
            as they are. What follows the last group is ignored.
        groups: divides C.
        kernel: odd.
        offset_scale: multiplies the learned offsets.
        grid_scale: multiplies the taps' regular distances.
        implementation: "package", the DCNv4 package's kernel, or one of :func:`bilinear_sum`'s. By
            default the package's where it is installed and computes the same.

    Returns:
        (B, H, W, C) with the dtype of ``value``.
    """
    _check(value, offset_mask, groups, kernel)
    batch, height, width, channels = value.shape
    if implementation in (None, "package"):
        out = _by_package(value, offset_mask, groups, kernel, offset_scale, grid_scale)
        if out is not None:
            return out
        if implementation is not None:
            raise ValueError("the DCNv4 package is not installed, or does not compute this")
    taps = kernel * kernel
    learned = offset_mask[..., : 3 * groups * taps].unflatten(-1, (groups, 3 * taps)).flatten(1, 2)
    # Coordinates of half precision could not tell the pixels of a large map apart.
    learned = learned.to(torch.promote_types(learned.dtype, torch.float32))
    offsets, weights = learned.split((2 * taps, taps), dim=-1)
    count = partial(torch.arange, device=learned.device, dtype=learned.dtype)
    grid = (count(kernel) - kernel // 2) * grid_scale
    taps_x = count(width).repeat(height)[:, None] + grid.repeat_interleave(kernel)
    taps_y = count(height).repeat_interleave(width)[:, None] + grid.repeat(kernel)
    places = sample_places(
        torch.stack((taps_x, taps_y), dim=-1)[None, :, None],
        offsets.unflatten(-1, (1, taps, 2)),
        offset_scale,
    )
    out = bilinear_sum(
        value.reshape(batch, height * width, groups, channels // groups),
        [(height, width)],
        places,
        weights.unsqueeze(3),
        None if implementation == "package" else implementation,
    )
    return out.reshape(value.shape)


def _by_package(
    value: Tensor,
    offset_mask: Tensor,
    groups: int,
    kernel: int,
    offset_scale: float,
    grid_scale: float,
) -> Tensor | None:
    module = _package() if value.is_cuda else None
    if module is None or offset_scale != grid_scale:
        return None
    dtype = _kernel_dtype(value, offset_mask)
    pixels, learned = value.to(dtype).contiguous(), offset_mask.to(dtype).contiguous()
    if not _fits(module, pixels, learned, groups, kernel):
        return None
    batch, _, _, channels = value.shape
    out: Tensor = module.DCNv4Function.apply(
        pixels, learned, kernel, kernel, 1, 1, kernel // 2, kernel // 2, 1, 1,
        groups, channels // groups, offset_scale, batch, 0,
    )  # fmt: skip
    return out.to(value.dtype)


@cache
def _package() -> ModuleType | None:
    try:
        from DCNv4.functions import dcnv4_func
    except (ImportError, NotImplementedError):  # the latter on GPUs that the package does not know
        return None
    return dcnv4_func


def _kernel_dtype(value: Tensor, offset_mask: Tensor) -> torch.dtype:
    """One type for both, as the package's kernel wants them: under autocast they differ.

    Its backward supports no bfloat16, whose numbers are float32's, too.
    """
    dtype = torch.promote_types(value.dtype, offset_mask.dtype)
    return torch.float32 if dtype == torch.bfloat16 else dtype


def _fits(module: ModuleType, value: Tensor, offset_mask: Tensor, groups: int, kernel: int) -> bool:
    """Whether the package's kernel computes what :func:`dcnv4` promises.

    Its backward adds atomically. Its launch takes a number of pixels per
    block that divides B * H * W; where it does not divide H * W, a block that straddles two images
    reads the wrong one.
    """
    batch, height, width, channels = value.shape
    layout = (groups, channels // groups)
    if not (
        value.dtype == offset_mask.dtype
        and value.dtype in (torch.float16, torch.float32)
        and kernel == 3
        and layout[1] % 16 == 0
        and offset_mask.shape[-1] % 8 == 0
        and value.numel()
        and not torch.are_deterministic_algorithms_enabled()
    ):
        return False
    for specification in (module.findspec, module.find_spec_bwd):
        stride, threads = specification(batch, height, width, *layout)
        pixels = threads * stride // channels
        if height * width % pixels:
            return False
    return True


def _check(value: Tensor, offset_mask: Tensor, groups: int, kernel: int) -> None:
    if value.ndim != 4 or value.shape[3] % groups:
        raise ValueError(
            f"value of shape {tuple(value.shape)} does not split into {groups} groups; "
            "expected (B, H, W, C)"
        )
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel}; expected an odd number")
    least = 3 * groups * kernel**2
    if offset_mask.shape[:3] != value.shape[:3] or offset_mask.shape[3] < least:
        raise ValueError(
            f"offset_mask of shape {tuple(offset_mask.shape)} does not fit value of shape "
            f"{tuple(value.shape)}; expected (B, H, W, {least} or more)"
        )

"""Group norm of maps that lie pixel by pixel in memory, on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detector.network.ops.layout import lies_by_pixels


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """As torch computes it, (B, C, H, W) to the same shape.

    Torch's kernels go through such a map group by group, a few channels of each pixel at a time:
    with two channels per group, three times as long forward and ten times backward.
    """
    if lies_by_pixels(x) and x.dtype == weight.dtype and torch.finfo(x.dtype).bits >= 32:
        return _GroupNorm.apply(x, groups, weight, bias, eps)
    return F.group_norm(x, groups, weight, bias, eps)


class _GroupNorm(torch.autograd.Function):
    """Every sum over a map is one per channel first: whole pixels are read side by side."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        centered = x - _mean(x.mean((2, 3)), groups)
        out = centered.square()
        rate = torch.rsqrt(_mean(out.mean((2, 3)), groups) + eps)
        ctx.save_for_backward(centered, rate, weight)
        ctx.groups = groups
        # Into memory that is in the cache still, here and below.
        return torch.addcmul(bias[:, None, None], centered, rate * weight[:, None, None], out=out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        centered, rate, weight = ctx.saved_tensors
        grad_x = centered * grad
        sums, products = grad.sum((2, 3)), grad_x.sum((2, 3))
        share = -rate / grad.shape[2:].numel()
        by_mean = _mean(sums * weight, ctx.groups) * share
        by_rate = _mean(products * weight, ctx.groups) * (share * rate.square())
        torch.addcmul(by_mean, centered, by_rate, out=grad_x)
        grad_x.addcmul_(grad, rate * weight[:, None, None])
        return grad_x, None, (products * rate.flatten(1)).sum(0), sums.sum(0), None


def _mean(of_channels: Tensor, groups: int) -> Tensor:
    """(B, C) to the means of the groups as (B, C, 1, 1)."""
    mean = of_channels.unflatten(1, (groups, -1)).mean(2, keepdim=True)
    return mean.expand(-1, -1, of_channels.shape[1] // groups).flatten(1)[:, :, None, None]

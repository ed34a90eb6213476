"""Batch norm over a batch that several processes share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detector.training.distributed import DistributedContext


def synchronize_norms(model: nn.Module, distributed: DistributedContext) -> None:
    """Has every batch norm take mean and variance of the whole batch, not of a process' share.

    Torch's own SyncBatchNorm runs on GPUs only; this runs on any device. The modules stay where
    they are and no tensor is renamed. Shares are of one size, as ``Share`` cuts them. Acts in
    training only.
    """
    if distributed.world_size == 1:
        return
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            forward = partial(_normalize, module, module.forward)
            module.forward = forward  # type: ignore[method-assign]


def _normalize(norm: nn.BatchNorm2d, alone: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not norm.training:
        return alone(x)
    count = dist.get_world_size()
    wide = x.float()
    # The mean first, and then the distances from it: their squares do not cancel.
    mean = _Sum.apply(wide.mean((0, 2, 3))) / count
    centered = wide - mean[:, None, None]
    variance = _Sum.apply(centered.square().mean((0, 2, 3))) / count
    if norm.track_running_stats:
        _remember(norm, mean.detach(), variance.detach(), count * x.numel() // x.shape[1])
    out = centered * (variance + norm.eps).rsqrt()[:, None, None]
    return (out * norm.weight[:, None, None] + norm.bias[:, None, None]).to(x.dtype)


@torch.no_grad()
def _remember(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, numbers: int) -> None:
    """The running statistics; that of the variance is corrected for the mean's being estimated."""
    momentum = norm.momentum or 0.0
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    for kept, new in (
        (norm.running_mean, mean),
        (norm.running_var, variance * (numbers / (numbers - 1))),
    ):
        if kept is not None:
            kept.lerp_(new.to(kept.dtype), momentum)


class _Sum(torch.autograd.Function):
    """The sum over the processes; each one's gradient is the sum of all processes' gradients."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(value: Tensor) -> Tensor:
    value = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(value)
    return value

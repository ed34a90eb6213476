"""What is computed another way where maps lie pixel by pixel, against maps channel by channel."""

from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.config import preset
from detector.network import backbone
from detector.network.model import HybridDetector
from detector.network.ops import channel_groups, group_norm, rms_normalize
from detector.network.ops.channel_groups import group_means, times_groups
from detector.network.ops.layout import by_pixels, lies_by_pixels

Operation = Callable[..., Tensor]


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for shape in shapes:
        yield torch.randn(shape, generator=generator, dtype=torch.float64)


def with_gradients(operation: Operation, *tensors: Tensor) -> tuple[Tensor, ...]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    out = operation(*leaves)
    (grad,) = drawn(tuple(out.shape), seed=1)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def check(operation: Operation, expected: Operation, x: Tensor, *others: Tensor) -> None:
    """Of maps in either order, and what lies by pixels comes out so."""
    exact = with_gradients(expected, x, *others)
    torch.testing.assert_close(with_gradients(operation, x, *others), exact)
    pixels = by_pixels(x)
    assert lies_by_pixels(pixels)
    found = with_gradients(operation, pixels, *others)
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("groups", [1, 4, 6, 12])
def test_group_norm_is_torchs(groups: int) -> None:
    x, weight, bias = drawn((3, 12, 5, 4), (12,), (12,))
    x = 3 * x + 2

    def torchs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.group_norm(x, groups, weight, bias, 1e-5)

    check(
        lambda *given: group_norm.group_norm(given[0], groups, *given[1:], 1e-5),
        torchs,
        x,
        weight,
        bias,
    )


def test_group_norm_of_a_constant_group_is_its_bias() -> None:
    x = by_pixels(torch.full((2, 4, 3, 3), 7.0))
    bias = torch.tensor([1.0, 2.0, 3.0, 4.0])
    out = group_norm.group_norm(x, 2, torch.ones(4), bias, 1e-5)
    assert out.equal(bias[:, None, None].expand(2, 4, 3, 3))


def test_channels_are_divided_by_their_root_mean_square() -> None:
    (x,) = drawn((2, 6, 5, 3))
    check(
        rms_normalize.rms_normalize,
        lambda x: x * (x.square().mean((2, 3), keepdim=True) + 1e-6).rsqrt(),
        x,
    )


def test_means_of_groups_and_weights_of_groups() -> None:
    x, weights = drawn((2, 12, 5, 3), (2, 4, 5, 3))
    check(
        lambda x: group_means(x, 4),
        lambda x: torch.stack([part.mean(1) for part in x.split(3, dim=1)], dim=1),
        x,
    )
    check(times_groups, lambda x, w: x * w.repeat_interleave(3, dim=1), x, weights)


@pytest.mark.parametrize("norm", ["gn", "bn", "ln"])
def test_the_order_in_memory_changes_no_number(
    norm: Literal["gn", "bn", "ln"], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = preset("tiny").replace(num_classes=3, norm=norm, neck_repeats=2, stage2="gate")
    model = HybridDetector(config).double()
    images, *_ = drawn((2, 3, 96, 64))

    def run() -> tuple[Tensor, ...]:
        model.zero_grad()
        torch.manual_seed(0)  # draws drop paths
        out = model(images)
        loss = out["logits"].square().sum() + out["boxes"].sum()
        torch.stack([loss, *(x.sum() for x in out["dense"])]).sum().backward()
        gradients = (x.grad for x in model.parameters() if x.grad is not None)
        return out["logits"], out["boxes"], *gradients

    def keep(images: Tensor) -> Tensor:
        return images

    ours = run()
    monkeypatch.setattr(backbone, "by_pixels", keep)
    for module in (channel_groups, group_norm, rms_normalize):
        monkeypatch.setattr(module, "lies_by_pixels", lambda maps: False)
    torch.testing.assert_close(ours, run(), rtol=1e-9, atol=1e-9)

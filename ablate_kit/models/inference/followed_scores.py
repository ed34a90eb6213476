"""Scores and boxes of detections that still hang on the weights they come from.

``Adapter.decode`` gives plain arrays. While it runs, each tensor that is handed out of PyTorch is
noted. Those whose values are the detections' scores and boxes lead back to the weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.models.inference.batches import Group

_LEAVES: tuple[Callable[..., Any], ...] = (Tensor.numpy, Tensor.tolist, Tensor.detach)


@dataclass(frozen=True)
class Followed:
    """The detections of one image, and tensors with a gradient.

    Attributes:
        scores: (k,) in the order of the detections.
        boxes: (k, 4) up to a scale that all share, or None where they cannot be followed.
    """

    found: ImageDetections
    scores: Tensor
    boxes: Tensor | None


class _Leaving(TorchFunctionMode):
    """Notes the tensors that leave PyTorch, and lets them go without their gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function in _LEAVES and args[0].requires_grad:
            self.seen.append(args[0])
            plain = args[0].detach()
            return plain if function is Tensor.detach else function(plain, *args[1:])
        if function is functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _batch_norm(
    images: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    *others: Any,
    **named: Any,
) -> Tensor:
    """PyTorch's own has no gradient for the statistics, which a checkpoint holds as weights."""
    if training or mean is None or variance is None or not (
        mean.requires_grad or variance.requires_grad
    ):  # fmt: skip
        return functional.batch_norm(
            images, mean, variance, weight, bias, training, *others, **named
        )
    epsilon = others[1] if len(others) > 1 else named.get("eps", 1e-5)
    scale = (variance + epsilon).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = (1, -1, *[1] * (images.dim() - 2))
    return images * scale.reshape(shape) + shift.reshape(shape)


def followed(adapter: Adapter, group: Group) -> Followed:
    """The detections of a group of one image; within ``torch.enable_grad`` in ``inference``.

    Raises:
        UserError: nothing leads from the detections back to the weights.
    """
    with _Leaving() as leaving:
        outputs = adapter.forward(group.inputs)
        leaving.seen.clear()  # what the model itself looks at is not what it gives
        (found,) = adapter.decode(outputs, group.origins)
    count = len(found.scores)
    for one in leaving.seen:
        if one.dim() == 1 and len(one) >= count:
            order = torch.argsort(one.detach(), descending=True, stable=True)[:count]
            values = one.detach()[order].cpu().double().numpy()
            if np.array_equal(values, found.scores):
                return Followed(found, one[order], _boxes(leaving.seen, len(one), order))
    raise UserError(
        f"{type(adapter.module).__name__} gives scores that do not lead back to its weights, so "
        "that nothing can be estimated from gradients; leave screen out of the recipe"
    )


def _boxes(seen: Sequence[Tensor], count: int, order: Tensor) -> Tensor | None:
    for one in seen:
        if one.shape == (count, 4):
            largest = one.detach().abs().max() if count else torch.ones(())
            return one[order] / torch.where(largest > 0, largest, 1.0)
    return None

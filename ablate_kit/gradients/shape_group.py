"""Parameters of one shape, measured together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Larger tensors are measured one by one: stacking them would cost more than it saves.
STACKED = 1 << 16

GRADIENT = ("grad_norm", "grad_mean", "grad_std", "grad_max", "grad_nonzero")
UPDATE = ("update_norm", "update_max", "moved", "weight_norm")


class ShapeGroup:
    """Parameters of the same shape, type and device, as one (k, ...) tensor.

    A model has hundreds of tensors and few shapes; one kernel per shape instead of one per tensor
    is what makes measuring every step cheap. Nothing here waits for the device.

    Two copies are held: the weights at the start, and those before the step under way, which the
    step's update is told from. ``transposed`` says that output channels lie along the second
    axis, as in transposed convolutions.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], transposed: bool) -> None:
        self.parameters = list(parameters)
        first = parameters[0]
        self.device = first.device
        self.transposed = transposed
        self.size = first.numel()
        self.start = self.weights().clone()
        self.before = self.start.clone()
        self.members = list(self.before.unbind())
        self.row_max = torch.zeros(self.rows(self.start).shape[:2], device=self.device)
        # Sums of squares over many elements; MPS has no float64.
        self.sums = torch.float32 if self.device.type == "mps" else torch.float64
        self.absent = torch.zeros((), dtype=first.dtype, device=self.device).expand(first.shape)

    def __len__(self) -> int:
        return len(self.parameters)

    def weights(self) -> Tensor:
        return _stacked([parameter.detach() for parameter in self.parameters])

    def rows(self, stacked: Tensor) -> Tensor:
        """(k, output rows or channels, rest) of a (k, ...) tensor, in float32 or float64."""
        if stacked.dtype not in (torch.float32, torch.float64):
            stacked = stacked.float()
        if self.transposed:
            stacked = stacked.transpose(1, 2)
        if stacked.ndim == 1:
            return stacked[:, None, None]
        if stacked.ndim == 2:
            return stacked[:, :, None]
        return stacked.flatten(2)

    def gradients(self, scale: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """``GRADIENT`` as (5, k), and the largest |gradient| of every row as (k, rows).

        ``scale`` divides them. None where no parameter has a gradient; one without counts as zero.
        """
        found = [parameter.grad for parameter in self.parameters]
        if all(gradient is None for gradient in found):
            return None
        rows = self.rows(_stacked([self._dense(gradient) for gradient in found]))
        if scale is not None:  # before anything is squared: it may be 2**100
            rows = rows / scale
        largest = torch.maximum(rows.amax(2), -rows.amin(2))
        norms = torch.linalg.vector_norm(rows, dim=2)
        # Squares of what is above 1.8e19 are infinite in float32; the gradient is not.
        norms = torch.where(norms.isinf(), largest, norms).to(self.sums)
        squares = norms.square().sum(1)
        mean = rows.sum(2).to(self.sums).sum(1) / self.size
        # Sum of squared distances from the mean; rounding must not make it negative.
        spread = (squares - self.size * mean.square()).clamp(min=0)
        std = (spread / max(self.size - 1, 1)).sqrt()
        nonzero = torch.linalg.vector_norm(rows.flatten(1), ord=0, dim=1)
        norm = squares.sqrt().clamp(max=torch.finfo(torch.float32).max)
        columns = [norm, mean, std, largest.amax(1), nonzero / self.size]
        return torch.stack([column.float() for column in columns]), largest.float()

    def updates(self) -> Tensor:
        """``UPDATE`` as (4, k): the step from ``before``, which is used up, and the weights now.

        Where weight decay was taken off ``before``, the update is what learning did.
        """
        weights = self.weights()
        step = self.rows(self.before.sub_(weights)).flatten(1)
        largest = torch.maximum(step.amax(1), -step.amin(1))
        moved = torch.linalg.vector_norm(step, ord=0, dim=1) / self.size
        norm = torch.linalg.vector_norm(step, dim=1)
        size = torch.linalg.vector_norm(self.rows(weights).flatten(1), dim=1)
        return torch.stack([column.float() for column in (norm, largest, moved, size)])

    def since_start(self) -> Tensor:
        """(6, k): largest and mean |change| since the start, norms and means now and then."""
        now, then = (self.rows(x).flatten(1) for x in (self.weights(), self.start))
        change = (now - then).abs()
        columns = [change.amax(1), change.mean(1), now.mean(1), then.mean(1)]
        columns += [torch.linalg.vector_norm(then, dim=1), then.abs().amax(1)]
        return torch.stack([column.float() for column in columns])

    def _dense(self, gradient: Tensor | None) -> Tensor:
        if gradient is None:
            return self.absent
        gradient = gradient.detach()
        return gradient.to_dense() if gradient.is_sparse else gradient


def group_by_shape(
    parameters: Sequence[tuple[nn.Parameter, nn.Module]],
) -> list[tuple[ShapeGroup, list[int]]]:
    """The parameters by family, each with its members' positions in ``parameters``."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, (parameter, module) in enumerate(parameters):
        transposed = parameter.ndim > 2 and isinstance(
            module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
        )
        alone = i if parameter.numel() > STACKED else -1
        key = (parameter.shape, parameter.dtype, parameter.device, transposed, alone)
        groups.setdefault(key, []).append(i)
    return [
        (ShapeGroup([parameters[i][0] for i in positions], transposed=bool(key[3])), positions)
        for key, positions in groups.items()
    ]


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))

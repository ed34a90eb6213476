"""The four pixels of a bilinear sample: where they lie, their shares, and how those change."""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from detector.network.ops.host_values import constant

Corners = tuple[Tensor, ...]  # upper left, upper right, lower left, lower right


@dataclass(frozen=True)
class Places:
    """The four pixels of each sample, two by two; all tensors are (bags, samples).

    Near a border they are the nearest four of the map, so that all of them exist; pixels a unit
    or more away have no share.
    """

    upper: Tensor  # row in the table of the upper left pixel, int32
    lower: Tensor  # and of the lower left one
    step: int  # from a pixel's row to that of its right neighbor
    x: "_Axis"
    y: "_Axis"

    def corner_weights(self, weight: Tensor) -> Corners:
        top, bottom = weight * self.y.first, weight * self.y.second
        left, right = self.x.first, self.x.second
        return top * left, top * right, bottom * left, bottom * right

    def gradients(self, weight: Tensor, dots: Corners) -> tuple[Tensor, Tensor, Tensor]:
        """Of x, y and weight, from each corner's scalar product with its bag's gradient."""
        west, east = self.y.mix(dots[0], dots[2]), self.y.mix(dots[1], dots[3])
        north, south = self.x.mix(dots[0], dots[1]), self.x.mix(dots[2], dots[3])
        grad_x = self.x.slope(west, east).mul_(weight)
        grad_y = self.y.slope(north, south).mul_(weight)
        return grad_x, grad_y, self.y.mix(north, south)


@dataclass(frozen=True)
class _Axis:
    """Samples between or near two neighboring pixels, along one axis."""

    distance: Tensor  # from the first pixel; in [0, 1) unless beyond the map's outer pixels
    first: Tensor  # share of the first pixel
    second: Tensor

    @staticmethod
    def of(distance: Tensor) -> "_Axis":
        return _Axis(distance, _tent(distance), _tent(distance - 1))

    def mix(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.addcmul(self.first * first, self.second, second)

    def slope(self, first: Tensor, second: Tensor) -> Tensor:
        """Derivative of :meth:`mix` by the distance; where it has a kink, the one to the right."""
        x = self.distance
        slope = torch.where(x < 0, first, torch.where(x < 1, second - first, -second))
        return slope.masked_fill_((x <= -1) | (x >= 2), 0)


def _tent(distance: Tensor) -> Tensor:
    return distance.abs().neg_().add_(1).clamp_(min=0)


@dataclass(frozen=True)
class Maps:
    """Where the pixels of all maps lie in the table (B * tokens * groups, d).

    The tensors hold, as int32, one number per sample of a bag.
    """

    tokens: int
    groups: int
    queries: int
    start: Tensor
    height: Tensor
    width: Tensor

    @staticmethod
    def of(shapes: tuple[tuple[int, int], ...], value: Tensor, samples: Tensor) -> "Maps":
        points = samples.shape[3] // len(shapes)
        sizes = [height * width for height, width in shapes]
        starts = (0, *accumulate(sizes[:-1]))
        of_samples = tuple(
            tuple(number for number in numbers for _ in range(points))
            for numbers in (starts, *zip(*shapes, strict=True))
        )
        start, height, width = constant(of_samples, torch.int32, value.device).unbind(0)
        return Maps(value.shape[1], value.shape[2], samples.shape[1], start, height, width)

    def places(self, x: Tensor, y: Tensor, bags: slice) -> Places:
        """The pixels of samples at (x, y), both (bags, samples)."""
        left, top = _first_pixel(x, self.width), _first_pixel(y, self.height)
        bag = torch.arange(bags.start, bags.stop, dtype=torch.int32, device=x.device)
        image = bag // (self.queries * self.groups)
        origin = image * (self.tokens * self.groups) + bag % self.groups
        along_x, along_y = _Axis.of(x - left), _Axis.of(y - top)
        upper = top.mul_(self.width).add_(left).add_(self.start).mul_(self.groups)
        upper.add_(origin[:, None])
        return Places(upper, upper + self.width * self.groups, self.groups, along_x, along_y)

    def below(self, rows: Tensor) -> Tensor:
        """The table's row one pixel down from each."""
        token = rows // self.groups % self.tokens
        first = torch.searchsorted(self.start.to(token.dtype), token, right=True) - 1
        return rows + self.width[first] * self.groups


def _first_pixel(x: Tensor, size: Tensor) -> Tensor:
    """The first of two neighboring pixels that x is between or nearest to; valid even for NaN."""
    return torch.minimum(x.floor().int().clamp_(min=0), size - 2)

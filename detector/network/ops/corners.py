"""The four pixels of a bilinear sample: where they lie, their shares, and how those change."""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from detector.network.ops.host_values import constant

Corners = tuple[Tensor, ...]  # upper left, upper right, lower left, lower right


@dataclass(frozen=True)
class Places:
    """The four pixels of each sample, two by two; rows are (bags, samples).

    Near a border they are the nearest four of the map, so that all of them exist; pixels a unit
    or more away have no share.
    """

    upper: Tensor  # row in the table of the upper left pixel, int32
    lower: Tensor  # and of the lower left one
    step: int  # from a pixel's row to that of its right neighbor
    x: "_Axis"
    y: "_Axis"

    @property
    def rows(self) -> Corners:
        """Of each corner, rows in the table of :meth:`tables`."""
        return self.upper, self.upper, self.lower, self.lower

    def tables(self, table: Tensor) -> Corners:
        return table, table[self.step :], table, table[self.step :]

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
    """Where the pixels of an image's maps lie in a table (images * tokens * groups, d).

    The tensors hold, as int32, one number for each sample of an image: to spread few numbers over
    the samples of a bag would take longer than the sum.
    """

    tokens: int
    groups: int
    samples: int  # of a bag
    start: Tensor  # row of the map's first pixel
    below: Tensor  # from a pixel's row to that of the pixel under it
    last: Tensor  # (2, 1, ...) the last column and row that have a next one

    @staticmethod
    def of(shapes: tuple[tuple[int, int], ...], value: Tensor, places: Tensor) -> "Maps":
        """``value`` is (images, tokens, groups, d), ``places`` (2, images, N, groups, samples)."""
        tokens, groups = value.shape[1:3]
        queries, _, samples = places.shape[2:]
        sizes = [height * width for height, width in shapes]
        starts = (0, *accumulate(sizes[:-1]))
        of_bag = tuple(
            tuple(number for number in numbers for _ in range(samples // len(shapes)))
            for numbers in (starts, *zip(*shapes, strict=True))
        )
        start, height, width = constant(of_bag, torch.int32, value.device)
        group = torch.arange(groups, dtype=torch.int32, device=value.device)[:, None]
        numbers = (start * groups + group, width * groups, width - 2, height - 2)
        start, below, *last = (
            number.expand(queries, groups, samples).flatten() for number in numbers
        )
        return Maps(tokens, groups, samples, start, below, torch.stack(last)[:, None])

    def places(self, places: Tensor) -> Places:
        """The pixels of some images' samples at (x, y), (2, images, N, groups, samples)."""
        places = places.flatten(2)
        # The first of two neighboring pixels that a sample is between or nearest to; valid even
        # for NaN.
        first = torch.minimum(places.floor().int().clamp_(min=0), self.last)
        distance = (places - first).view(2, -1, self.samples)
        shares = zip(distance, _tent(distance), _tent(distance - 1), strict=True)
        along_x, along_y = (_Axis(*axis) for axis in shares)
        left, top = first
        image = torch.arange(len(left), dtype=torch.int32, device=left.device)[:, None]
        upper = top.mul_(self.below).add_(left.mul_(self.groups)).add_(self.start)
        upper = upper.add_(image * (self.tokens * self.groups)).view(-1, self.samples)
        lower = (upper.view(len(left), -1) + self.below).view(upper.shape)
        return Places(upper, lower, self.groups, along_x, along_y)

"""Maps in frames of zeros, and the four pixels of a bilinear sample among them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.network.ops.host_values import constant


@dataclass(frozen=True)
class FramedMaps:
    """Where the pixels of maps lie in a table: row by row, one map after the other, with zeros
    around each, so that a sample at a border reads four pixels as all others do.

    One row of zeros is above a map, two are below it. The two pixels on its right are on the left
    of its next row, and one zero before all maps is on the left of the first.
    """

    shapes: tuple[tuple[int, int], ...]  # height, width

    @property
    def rows(self) -> int:
        """Of the table of an image and group."""
        return 1 + sum(self._areas())

    def table(self, value: Tensor) -> Tensor:
        """(images, tokens, groups, d) to (images, groups, rows, d)."""
        images, _, groups, channels = value.shape
        table = value.new_zeros(images, groups, self.rows, channels)
        for inside, pixels in self._pairs(table, value):
            inside.copy_(pixels)
        return table

    def pixels(self, table: Tensor) -> Tensor:
        """(images, groups, rows, d) to (images, tokens, groups, d)."""
        images, groups, _, channels = table.shape
        tokens = sum(height * width for height, width in self.shapes)
        value = table.new_empty(images, tokens, groups, channels)
        for inside, pixels in self._pairs(table, value):
            pixels.copy_(inside)
        return value

    def places(self, weight: Tensor) -> "Places":
        """For samples with weights (images * groups, N, samples), as many on each map."""
        queries, samples = weight.shape[1:]
        starts = accumulate(self._areas()[:-1], initial=1)
        origin = [start + width + 2 for start, (_, width) in zip(starts, self.shapes, strict=True)]
        sizes = [(width, height) for height, width in self.shapes]

        def spread(numbers: Sequence[int], dtype: torch.dtype) -> Tensor:
            one = constant(tuple(numbers), dtype, weight.device)
            if len(numbers) == 1:
                return one
            of_bag = one[:, None].expand(-1, samples // len(numbers)).flatten()
            return of_bag.expand(queries, samples).flatten()

        ends = torch.stack([spread(side, weight.dtype) for side in zip(*sizes, strict=True)])
        below = [width + 2 for width, _ in sizes]
        return Places(
            self.rows,
            samples,
            ends[:, None],
            spread(origin, torch.int32),
            spread(below, weight.dtype),
            spread(below, torch.int32),
        )

    def _areas(self) -> list[int]:
        return [(height + 3) * (width + 2) for height, width in self.shapes]

    def _pairs(self, table: Tensor, value: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each map's pixels in (images, groups, rows, d) and in (images, tokens, groups, d)."""
        framed = table[:, :, 1:].split(self._areas(), dim=2)
        plain = value.split([height * width for height, width in self.shapes], dim=1)
        for (height, width), frame, pixels in zip(self.shapes, framed, plain, strict=True):
            inside = frame.unflatten(2, (height + 3, width + 2))[:, :, 1 : height + 1, :width]
            yield inside, pixels.unflatten(1, (height, width)).permute(0, 3, 1, 2, 4)


@dataclass(frozen=True)
class Places:
    """Of the samples of an image and group, one number each, or one for all: to spread few numbers
    over the samples of a bag would take longer than the sum."""

    rows: int  # of the table
    of_bag: int  # samples
    ends: Tensor  # (2, 1, ...) width and height of the map
    origin: Tensor  # row in the table of the map's first pixel
    below: Tensor  # from a pixel's row to that of the pixel under it, as a float ...
    step: Tensor  # ... and as int32

    def samples(self, places: Tensor, weight: Tensor) -> "Samples":
        """Samples at (x, y), (2, images * groups, N, samples), as bags."""
        # What is off the map reads the zeros on its lower right, whose slope is zero, too. Whole
        # numbers and shares alone: to compare takes ten times as long as to multiply.
        places = torch.minimum(F.threshold(places.flatten(2), -1, math.inf), self.ends)
        first = places.floor()
        x, y = (places - first).view(2, -1, self.of_bag)
        left, top = first
        upper = torch.addcmul(left, top, self.below).int()  # exact below 2**24
        upper = upper.add_(self.origin).clamp_(min=0)  # valid even for NaN
        start = torch.arange(0, len(left) * self.rows, self.rows, device=left.device)
        upper.add_(start.int()[:, None])
        lower = upper + self.step
        pixels = [row.view(x.shape) for row in (upper, upper + 1, lower, lower + 1)]
        weight = weight.view(x.shape)
        below = weight * y
        above = weight - below
        above_right, below_right = above * x, below * x
        weights = (above - above_right, above_right, below - below_right, below_right)
        return Samples(torch.cat(pixels, dim=1), torch.cat(weights, dim=1), x, y, weight)


class Samples(NamedTuple):
    """Bags of samples between four pixels each.

    Pixels of a bag are the upper left ones of all samples, then the upper right ones, the lower
    left ones and the lower right ones.
    """

    pixels: Tensor  # (bags, 4 * samples) rows in the table, int32
    weights: Tensor  # (bags, 4 * samples) of the pixels
    x: Tensor  # (bags, samples) shares of the pixels on the right, in [0, 1)
    y: Tensor  # and of the lower ones
    weight: Tensor

    def gradients(self, dots: Tensor, *grads: Tensor) -> None:
        """Writes those of x, y and weight, from each pixel's scalar product with its bag's
        gradient."""
        grad_x, grad_y, grad_weight = (grad.view(self.x.shape) for grad in grads)
        samples = self.x.shape[1]
        north_west, north_east, south_west, south_east = dots.split(samples, dim=1)
        north_slope, south_slope = north_east - north_west, south_east - south_west
        north = torch.addcmul(north_west, self.x, north_slope)
        south = torch.addcmul(south_west, self.x, south_slope)
        slope = south.sub_(north)
        torch.mul(torch.lerp(north_slope, south_slope, self.y), self.weight, out=grad_x)
        torch.mul(slope, self.weight, out=grad_y)
        torch.addcmul(north, self.y, slope, out=grad_weight)

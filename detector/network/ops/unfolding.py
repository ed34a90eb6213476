"""Tiles of queries and windows of keys as views of one padded map: few launches, for a GPU.

The windows of :mod:`tiling` shift at the borders, so that each is copied by itself. Here the map is
padded instead, windows lie ``tile`` apart, and ``unfold`` makes all of them at once.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.network.ops.tiling import Side, Tiles, tile_of


@dataclass(frozen=True)
class Unfolding(Tiles):
    """Tiles whose windows may reach beyond the map, and lie ``tile`` apart."""

    rows: "_Axis"
    columns: "_Axis"

    @staticmethod
    def of(
        height: int, width: int, kernel: int, tile: int | None = None, device: str = "cpu"
    ) -> "Unfolding":
        """Tiles of about ``tile`` pixels a side; by default as :func:`tile_of` has it."""
        sides = [_Axis.of(n, kernel, tile_of(n, kernel, tile), device) for n in (height, width)]
        return Unfolding(kernel, *sides)

    def windows(self, maps: Tensor) -> Tensor:
        """The keys of each tile, from (b, heads, H, W, d); zeros beyond the map."""
        rows, columns = self.rows, self.columns
        padded = F.pad(maps, (0, 0, columns.before, columns.after, rows.before, rows.after))
        views = padded.unfold(2, rows.window, rows.tile).unfold(3, columns.window, columns.tile)
        return views.permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5)

    def mask(self, bias: Tensor) -> Tensor:
        """What to add to the logits, minus infinity where a key is not the query's neighbor.

        From (heads, 2 * kernel - 1, 2 * kernel - 1): (heads, tile rows, tile columns, pixels of a
        tile, pixels of a window).
        """
        bordered = F.pad(bias, (0, 1, 0, 1), value=-math.inf)
        spread = bordered.index_select(1, self.rows.relative)
        spread = spread.index_select(2, self.columns.relative)
        rows, columns = self.rows, self.columns
        split = spread.view(
            -1, rows.count, rows.tile, rows.window, columns.count, columns.tile, columns.window
        )
        return split.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


@dataclass(frozen=True)
class _Axis(Side):
    before: int  # zeros before the map, so that the first window begins at the first of them
    # For each (tile, query, key) the row or column of the bias, one past the last where the key is
    # outside the query's neighborhood; flat.
    relative: Tensor

    @property
    def padded(self) -> int:
        return (self.count - 1) * self.tile + self.window

    @property
    def after(self) -> int:
        return self.padded - self.before - self.length

    @staticmethod
    @lru_cache(maxsize=64)
    def of(length: int, kernel: int, tile: int, device: str) -> "_Axis":
        count = math.ceil(length / tile)
        tile = math.ceil(length / count)
        starts = torch.arange(count, device="cpu")[:, None, None] * tile
        # Queries beyond the map take the last one's neighbors, so that no softmax is empty.
        query = (starts + torch.arange(tile, device="cpu")[:, None]).clamp(max=length - 1)
        first = (query - kernel // 2).clamp(0, length - kernel)
        before = int((starts - first).max())
        window = int((first + kernel - starts).max()) + before
        key = starts - before + torch.arange(window, device="cpu")
        near = (key >= first) & (key < first + kernel)
        relative = torch.where(near, key - query + kernel - 1, 2 * kernel - 1)
        with torch.inference_mode(False):  # a later caller may need gradients
            on_device = relative.flatten().to(device, copy=True)
        return _Axis(length, count, tile, window, before, on_device)

"""How neighborhood attention cuts a map into tiles of queries and windows of keys."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 8  # pixels along a side, about; on the CPU 6 to 10 measure alike for kernels 3, 5 and 7

# Tiles, as an index into (b, heads, tile rows, tile columns, ...), and what they share.
Biases = list[tuple[tuple[slice, ...], Tensor]]


@dataclass(frozen=True)
class Side:
    """One side of a map, cut into tiles."""

    length: int
    count: int
    tile: int  # queries of a tile
    window: int  # keys of a tile

    @property
    def excess(self) -> int:
        """Queries of the last tile that are beyond the map."""
        return self.count * self.tile - self.length


@dataclass(frozen=True)
class Tiles:
    """A map's rows and columns, each cut into tiles.

    Tiled queries are (b, heads, tile rows, tile columns, pixels of a tile, d), tiled keys and
    values (..., pixels of a window, d). The window of a tile holds the kernel x kernel pixels of
    each of its queries; windows overlap.
    """

    kernel: int
    rows: Side
    columns: Side

    def queries(self, maps: Tensor) -> Tensor:
        """Tile (b, heads, H, W, d); where tiles reach beyond the map they hold zeros."""
        if self.columns.excess or self.rows.excess:
            maps = F.pad(maps, (0, 0, 0, self.columns.excess, 0, self.rows.excess))
        split = maps.unflatten(3, (-1, self.columns.tile)).unflatten(2, (-1, self.rows.tile))
        return split.transpose(3, 4).flatten(4, 5)

    def untiled(self, tiles: Tensor) -> Tensor:
        """The inverse of :meth:`queries`."""
        split = tiles.unflatten(4, (self.rows.tile, self.columns.tile)).transpose(3, 4)
        padded = split.flatten(4, 5).flatten(2, 3)
        return padded[:, :, : self.rows.length, : self.columns.length]


def tile_of(length: int, kernel: int, wanted: int | None) -> int:
    """Pixels of a tile along a side: ``wanted``, or the whole side if it is short, or ``TILE``."""
    return wanted or (length if length <= 2 * kernel + 1 else TILE)


@dataclass(frozen=True)
class Tiling(Tiles):
    """Tiles whose windows shift at the borders, so that none reaches beyond the map."""

    rows: "_Axis"
    columns: "_Axis"

    @staticmethod
    def of(
        height: int, width: int, kernel: int, tile: int | None = None, device: str = "cpu"
    ) -> "Tiling":
        """Tiles of about ``tile`` pixels a side; by default as :func:`tile_of` has it."""
        sides = [_Axis.of(n, kernel, tile_of(n, kernel, tile), device) for n in (height, width)]
        return Tiling(kernel, *sides)

    @property
    def logits(self) -> int:
        """Products of queries and keys, per head and image."""
        return math.prod(side.count * side.tile * side.window for side in (self.rows, self.columns))

    def windows(self, maps: Tensor) -> Tensor:
        """The keys of each tile, from (b, heads, H, W, d)."""
        batch, heads, _, _, channels = maps.shape
        counts, sides = self._windows_shape
        windows = maps.new_empty(batch, heads, *counts, *sides, channels)
        for tile, place in self._places():
            windows[tile] = maps[place]
        return windows.flatten(4, 5)

    def add_windows(self, windows: Tensor, maps: Tensor) -> None:
        """Add every window to its place in ``maps``: the gradient of :meth:`windows`."""
        split = windows.unflatten(4, self._windows_shape[1])
        for tile, place in self._places():
            maps[place].add_(split[tile])

    def biases(self, bias: Tensor) -> Biases:
        """What to add to the logits, minus infinity where a key is not the query's neighbor.

        Tiles in the same position relative to the borders share theirs.

        Args:
            bias: (heads, 2 * kernel - 1, 2 * kernel - 1).

        Returns:
            Tiles and their bias (heads, 1, 1, pixels of a tile, pixels of a window).
        """
        bordered = F.pad(bias, (0, 1, 0, 1), value=-math.inf)
        biases: Biases = []
        for rows, columns in product(self.rows.runs, self.columns.runs):
            spread = bordered.index_select(1, rows.relative)
            spread = spread.index_select(2, columns.relative)
            swapped = spread.view(-1, *self._bias_shape).transpose(2, 3)
            tiles = (slice(None), slice(None), rows.tiles, columns.tiles)
            biases.append((tiles, swapped.flatten(1, 2).flatten(2, 3)[:, None, None]))
        return biases

    def bias_gradient(self, gradients: list[Tensor]) -> Tensor:
        """The gradient of the bias from those of :meth:`biases`, in the same order."""
        tile_height, window_height, tile_width, window_width = self._bias_shape
        heads = gradients[0].shape[0]
        bordered = gradients[0].new_zeros(heads, 2 * self.kernel, 2 * self.kernel)
        runs = product(self.rows.runs, self.columns.runs)
        for (rows, columns), gradient in zip(runs, gradients, strict=True):
            split = gradient.view(-1, tile_height, tile_width, window_height, window_width)
            spread = split.transpose(2, 3).flatten(3, 4).flatten(1, 2)
            by_row = spread.new_zeros(heads, 2 * self.kernel, spread.shape[2])
            by_row.index_add_(1, rows.relative, spread)
            bordered.index_add_(2, columns.relative, by_row)
        return bordered[:, :-1, :-1]

    @property
    def _windows_shape(self) -> tuple[tuple[int, int], tuple[int, int]]:
        counts = self.rows.count, self.columns.count
        return counts, (self.rows.window, self.columns.window)

    @property
    def _bias_shape(self) -> tuple[int, int, int, int]:
        return self.rows.tile, self.rows.window, self.columns.tile, self.columns.window

    def _places(self) -> Iterator[tuple[tuple[slice | int, ...], tuple[slice, ...]]]:
        """Of each tile, its index in the windows and its window's place in the map."""
        every = slice(None)
        for (i, row), (j, column) in product(
            enumerate(self.rows.starts), enumerate(self.columns.starts)
        ):
            window_rows = slice(row, row + self.rows.window)
            window_columns = slice(column, column + self.columns.window)
            yield (every, every, i, j), (every, every, window_rows, window_columns)


@dataclass(frozen=True)
class _Run:
    """Consecutive tiles whose windows lie alike around their queries."""

    tiles: slice
    # For each (query, key) of a tile the row or column of the bias, one past the last where the
    # key is outside the query's neighborhood; flat.
    relative: Tensor


@dataclass(frozen=True)
class _Axis(Side):
    starts: tuple[int, ...]  # first key of each tile
    runs: tuple[_Run, ...]

    @staticmethod
    @lru_cache(maxsize=64)
    def of(length: int, kernel: int, tile: int, device: str) -> "_Axis":
        count = math.ceil(length / tile)
        tile = math.ceil(length / count)
        window = min(length, tile + kernel - 1)
        tiles = torch.arange(count, device="cpu")[:, None, None]
        starts = (tiles * tile - kernel // 2).clamp(0, length - window)
        # Queries beyond the map take the last one's neighbors, so that no softmax is empty.
        query = (tiles * tile + torch.arange(tile, device="cpu")[:, None]).clamp(max=length - 1)
        key = starts + torch.arange(window, device="cpu")
        first = (query - kernel // 2).clamp(0, length - kernel)
        near = (key >= first) & (key < first + kernel)
        relative = torch.where(near, key - query + kernel - 1, 2 * kernel - 1)
        changes = [i for i in range(1, count) if not relative[i].equal(relative[i - 1])]
        return _Axis(
            length=length,
            count=count,
            tile=tile,
            window=window,
            starts=tuple(starts.flatten().tolist()),
            runs=tuple(
                _Run(slice(start, end), relative[start].flatten().to(device))
                for start, end in pairwise([0, *changes, count])
            ),
        )

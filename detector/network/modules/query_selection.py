"""Queries that depend on the image: encoder tokens as proposals, and seeds on the neck's maps."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.config import HybridConfig
from detector.network.float32 import without_autocast
from detector.network.layers import xavier_linear
from detector.network.ops.host_values import constant

PROPOSAL_BIAS = -2.0
PEAK_SHARE, GRID_SHARE = 0.55, 0.4  # initial shares of the map's feature in a seed's content
SEED_LEVELS = (1, 2, 3)  # p5, p4, p3 of the maps p6, p5, p4, p3


class QuerySet(NamedTuple):
    """What the decoder starts from."""

    content: Tensor  # (B, N, C)
    position: Tensor  # (B or 1, N, C)
    reference: Tensor  # (B, N, 2) points (x, y) in [0, 1]


class Proposals(nn.Module):
    """The encoder tokens with the highest objectness become queries.

    A query takes its content from the token, its position encoding from the token's and its
    reference from the center of a box that the token predicts. That box has no loss of its own, as
    in the thesis: its center learns through the decoder, its size does not.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.count = config.proposal_queries
        self.objectness = xavier_linear(config.d_model, 1)
        self.box = xavier_linear(config.d_model, 4)
        self.content = _Projection(config.d_model)
        with torch.no_grad():
            self.objectness.bias.fill_(PROPOSAL_BIAS)

    def forward(
        self,
        memory: Tensor,
        position: Tensor,
        shapes: Sequence[tuple[int, int]],
        level_embed: Tensor,
    ) -> tuple[QuerySet, Tensor]:
        """The proposals of (B, tokens, C), best first, and their objectness logits (B, n)."""
        scores, index = self._best(memory)
        cells = tuple(height * width for height, width in shapes)
        sizes = constant(cells, torch.long, memory.device)
        levels = level_embed.repeat_interleave(sizes, dim=0, output_size=memory.shape[1])
        tokens = memory.gather(1, index[..., None].expand(-1, -1, memory.shape[-1]))
        content = self.content(tokens) + levels[index]
        return QuerySet(content, position[0][index], self._references(tokens)), scores

    @without_autocast
    def _best(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The highest objectness logits and their tokens; half precision would make ties."""
        scores, index = self.objectness(memory).squeeze(-1).topk(self.count, dim=1)
        return scores, index

    @without_autocast
    def _references(self, tokens: Tensor) -> Tensor:
        return self.box(tokens)[..., :2].sigmoid()


class Seeds(nn.Module):
    """Points on the neck's maps p5, p4, p3 whose features enter the content of learned queries.

    ``peak_queries`` of them lie on the highest local maxima of the maps' mean activation,
    ``grid_queries`` on regular grids. A level gets its share of either by its number of cells.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.peaks, self.grid = config.peak_queries, config.grid_queries
        self.content = _Projection(config.d_model)
        self.peak_logit = _share(PEAK_SHARE) if self.peaks else None
        self.grid_logit = _share(GRID_SHARE) if self.grid else None

    @without_autocast
    def forward(
        self, levels: Sequence[Tensor], level_embed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points (B, n, 2), projected features (B, n, C) and their shares (n, 1) in the content.

        Peaks come first, then the grid, both from the coarser level to the finer.
        """
        maps = [levels[i] for i in SEED_LEVELS]
        cells = [x.shape[-2] * x.shape[-1] for x in maps]
        points: list[Tensor] = []
        features: list[Tensor] = []
        shares: list[Tensor] = []
        for count, logit, place in (
            (self.peaks, self.peak_logit, _peaks),
            (self.grid, self.grid_logit, _grid),
        ):
            if logit is None:
                continue
            for level, x, n in zip(SEED_LEVELS, maps, allocate(count, cells), strict=True):
                points.append(place(x, n))
                features.append(_sample(x, points[-1]) + level_embed[level])
            shares.append(logit.sigmoid().expand(count, 1))
        content = self.content(torch.cat(features, dim=1))
        return torch.cat(points, dim=1), content, torch.cat(shares)


class _Projection(nn.Module):
    """Layer norm and two linear layers with a GELU between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fc1 = xavier_linear(channels, channels)
        self.fc2 = xavier_linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


def allocate(count: int, cells: Sequence[int]) -> list[int]:
    """``count`` split in proportion to ``cells``, by the largest remainders."""
    exact = [count * n / sum(cells) for n in cells]
    shares = [math.floor(x) for x in exact]
    by_remainder = sorted(range(len(cells)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: count - sum(shares)]:
        shares[i] += 1
    return shares


@torch.no_grad()
def _peaks(x: Tensor, count: int) -> Tensor:
    """(B, count, 2) centers of the cells with the highest local maxima (3x3) of mean ReLU(x)."""
    height, width = x.shape[-2:]
    energy = x.relu().mean(1, keepdim=True)
    highest = energy == F.max_pool2d(energy, 3, stride=1, padding=1)
    index = (energy * highest).flatten(1).topk(count, dim=1).indices
    column, row = index % width, index.div(width, rounding_mode="floor")
    return torch.stack(((column + 0.5) / width, (row + 0.5) / height), dim=-1).to(x.dtype)


def _grid(x: Tensor, count: int) -> Tensor:
    """(B, count, 2) points of a grid row by row, between the centers of the corner cells.

    Points beyond ``count`` are left out at the end, and a single column or row lies at the left or
    the top, as in the thesis.
    """
    height, width = x.shape[-2:]
    columns = max(1, round(math.sqrt(count * width / height)))
    rows = math.ceil(count / columns)
    across, down = (
        torch.linspace(0.5 / side, 1 - 0.5 / side, n, dtype=x.dtype, device=x.device)
        for side, n in ((width, columns), (height, rows))
    )
    grid = torch.stack(torch.broadcast_tensors(across[None, :], down[:, None]), dim=-1)
    return grid.flatten(0, 1)[:count].expand(len(x), -1, -1)


def _sample(x: Tensor, points: Tensor) -> Tensor:
    """(B, n, C): the map at points in [0, 1], bilinear between cell centers, zero outside."""
    grid = (2 * points - 1)[:, :, None]
    sampled = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.squeeze(-1).transpose(1, 2)


def _share(initial: float) -> nn.Parameter:
    return nn.Parameter(torch.logit(torch.tensor(initial)))

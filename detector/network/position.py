"""Position encodings, computed on the fly.

The thesis crops a 640 x 640 table (524 MB at width 320) to the map's size, without rescaling:
the phases of a map of side n reach n/640 only, so the encoding is nearly constant and a point of
the image has another encoding on each level. ``cropped`` reproduces it; ``sine`` is the normalized
encoding of DETR (Carion et al. 2020, appendix A.4).
"""

import math
from typing import Literal

import torch
from torch import Tensor

TABLE_SIDE = 640
TEMPERATURE = 10_000.0


def encode_position(
    kind: Literal["cropped", "sine"], height: int, width: int, channels: int, like: Tensor
) -> Tensor:
    """(height * width, channels) in row-major order; blocks sin y, cos y, sin x, cos x."""
    y, x = (_coordinates(kind, side, like.device) for side in (height, width))
    quarter = channels // 4
    index = torch.arange(quarter, dtype=torch.float32, device=like.device)
    frequencies = torch.exp(-math.log(TEMPERATURE) * index / quarter)
    phase_y = (y[:, None] * frequencies)[:, None, :].expand(height, width, quarter)
    phase_x = (x[:, None] * frequencies)[None, :, :].expand(height, width, quarter)
    blocks = (phase_y.sin(), phase_y.cos(), phase_x.sin(), phase_x.cos())
    return torch.cat(blocks, dim=-1).flatten(0, 1).to(like.dtype)


def _coordinates(kind: str, side: int, device: torch.device) -> Tensor:
    if kind == "cropped":
        return torch.linspace(0, 1, TABLE_SIDE, device=device)[:side]
    return (torch.arange(side, dtype=torch.float32, device=device) + 0.5) / side * (2 * math.pi)


def cell_centers(height: int, width: int, like: Tensor) -> Tensor:
    """(height * width, 2) centers (x, y) in [0, 1] of the cells of a map, row-major."""
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
    return torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), dim=-1).flatten(0, 1)

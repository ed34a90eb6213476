"""Neighborhood attention by FlexAttention: torch compiles one kernel from the bias and the mask.

Pixels are tokens, row by row. A block of consecutive queries sees keys of a few rows only, and of
those the kernel visits whole blocks; inside, the mask leaves each query its own neighbors.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from detector.network.ops.compiling import run_compiled

BLOCK = 128  # tokens of a block, torch's default
FEWEST_CHANNELS = 16  # of a head: what the kernel's matrix products take


def flex_neighborhood_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, kernel: int
) -> Tensor:
    """As :func:`neighborhood_attention`, without dropout; compiled on a GPU, eager elsewhere.

    On a GPU the gradients are added atomically. On the CPU torch has no gradient of it.
    """
    batch, heads, height, width, channels = query.shape
    score = None
    if bias is not None:
        # A bias for each image and row of queries: otherwise the gradients of all pixels would
        # meet, atomically, in few places.
        spread = bias.to(torch.promote_types(query.dtype, torch.float32))[None, :, None]
        score = _score(spread.expand(batch, heads, height, *bias.shape[1:]).contiguous(), width)
    missing = max(0, FEWEST_CHANNELS - channels)
    tokens = [
        F.pad(tensor.flatten(2, 3), (0, missing)).contiguous() for tensor in (query, key, value)
    ]
    mask = _neighbors(height, width, kernel, str(query.device))
    if query.is_cuda:
        out: Tensor = run_compiled(
            flex_attention, *tokens, score_mod=score, block_mask=mask, scale=1.0
        )
    else:
        out = _eager(*tokens, score_mod=score, block_mask=mask)
    return out[..., :channels].unflatten(2, (height, width))


def _eager(*tokens: Tensor, **modifications: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
        run: Any = flex_attention
        return run(*tokens, scale=1.0, **modifications)


def _score(bias: Tensor, width: int) -> Callable[..., Tensor]:
    """Adds the bias (B, heads, H, 2 * kernel - 1, 2 * kernel - 1)."""
    center = bias.shape[-1] // 2

    def score(logit: Tensor, image: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row, column = query // width, query % width
        # What the mask leaves out has no bias; it must not be looked up outside either.
        down = (key // width - row + center).clamp(0, 2 * center)
        right = (key % width - column + center).clamp(0, 2 * center)
        return logit + bias[image, head, row, down, right]

    return score


@lru_cache(maxsize=64)
def _neighbors(height: int, width: int, kernel: int, device: str) -> BlockMask:
    """Which keys each query sees, and the blocks that hold them."""
    half = kernel // 2

    def mask(image: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        down = key // width - (query // width - half).clamp(0, height - kernel)
        right = key % width - (query % width - half).clamp(0, width - kernel)
        return (down >= 0) & (down < kernel) & (right >= 0) & (right < kernel)

    tokens = height * width
    starts = torch.arange(0, tokens, BLOCK, device="cpu")
    ends = (starts + BLOCK - 1).clamp(max=tokens - 1)
    top = (starts // width - half).clamp(0, height - kernel)
    bottom = (ends // width - half).clamp(0, height - kernel) + kernel - 1
    first, last = top * width // BLOCK, (bottom * width + width - 1) // BLOCK
    count = last - first + 1
    # The blocks of a row are consecutive; what follows them in a row is not looked at.
    blocks = (first[:, None] + torch.arange(len(starts), device="cpu")) % len(starts)
    with torch.inference_mode(False):  # a later caller may need gradients
        return BlockMask.from_kv_blocks(
            count[None, None].int().to(device),
            blocks[None, None].int().to(device),
            BLOCK_SIZE=BLOCK,
            mask_mod=mask,
            seq_lengths=(tokens, tokens),
        )

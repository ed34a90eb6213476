"""Rows of a table as sums of weighted bags: the gradient of sums over a bag's rows."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def scattered_rows(rows: int, index: Tensor, weights: Tensor, bags: Tensor) -> Tensor:
    """(rows, d): each row the sum of all bags that read it, times their weights.

    Args:
        rows: of the table.
        index: (n, 4 * samples) int32: what bag i reads, all samples' upper left pixels first, then
            the upper right ones, the lower left ones and the lower right ones.
        weights: like ``index``.
        bags: (n, d).
    """
    return (_in_order if bags.is_cpu else _sorted)(rows, index, weights, bags)


def _in_order(rows: int, index: Tensor, weights: Tensor, bags: Tensor) -> Tensor:
    """One bag after the other on a CPU, as a product with a sparse matrix: a quarter of the time
    of sorted sums, on one core."""
    from scipy.sparse import csc_array  # a tenth of a second that only training needs

    ends = np.arange(0, index.numel() + 1, index.shape[1], dtype=np.int32)
    parts = weights.flatten().numpy(), index.flatten().numpy(), ends
    return torch.from_numpy(csc_array(parts, shape=(rows, len(index))) @ bags.numpy())


def _sorted(rows: int, index: Tensor, weights: Tensor, bags: Tensor) -> Tensor:
    """By one sort of the samples by their upper left pixel: no two additions meet, so that a GPU
    gives the same bits each time."""
    upper, _, lower, _ = index.unflatten(1, (4, -1)).unbind(1)
    own, order = upper.flatten().sort(stable=True)
    own, counts = torch.unique_consecutive(own, return_counts=True)
    ends = F.pad(counts.cumsum(0), (1, 0))
    of_bag = order.int() // upper.shape[1]
    below = lower.flatten()[order[ends[:-1]]].long()
    own = own.long()  # twice as fast as int32 in index_add_
    ends = ends.int()
    out = bags.new_zeros(rows, bags.shape[1])
    corners = own, own + 1, below, below + 1
    for corner, weight in zip(corners, weights.unflatten(1, (4, -1)).unbind(1), strict=True):
        sums = F.embedding_bag(
            of_bag,
            bags,
            ends,
            per_sample_weights=weight.flatten().index_select(0, order),
            mode="sum",
            include_last_offset=True,
        )
        out.index_add_(0, corner, sums)
    return out

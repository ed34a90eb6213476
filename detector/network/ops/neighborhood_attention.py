"""Neighborhood attention (Hassani et al. 2023): every pixel attends to the window around it.

The map is cut into tiles of queries. The windows of a tile's queries lie in one slightly larger
window, so a tile is a small dense attention with a mask: matrix products, and no copy of the keys
per query. Most of each product is masked away, and yet this is several times faster on the CPU
than to visit each query's own keys. A map of little more than one window is a single tile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detector.network.ops.tiling import Biases, Tiling
from detector.network.ops.unfolding import Unfolding

# Logits held at once. On the CPU temporaries near the cache's size are fastest, a GPU wants few,
# large kernels.
LOGITS_CPU = 1 << 21
LOGITS_GPU = 1 << 26

Implementation = Literal["tiled", "sdpa", "natten"]

Block = tuple[slice, slice]  # images, heads


def neighborhood_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    kernel: int,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    implementation: Implementation | None = None,
) -> Tensor:
    """Softmax attention of each pixel over the kernel x kernel pixels around it.

    At borders the window shifts to stay inside the map, so each query has exactly kernel x kernel
    keys: along an axis of length L those of query i start at clamp(i - kernel // 2, 0, L - kernel).

    Args:
        query: (B, heads, H, W, d), already scaled.
        key: shaped like ``query``.
        value: shaped like ``query``.
        kernel: odd side of the window, at most H and W.
        bias: (heads, 2 * kernel - 1, 2 * kernel - 1), added to the logits; indexed along both axes
            by position of key - position of query + kernel - 1.
        dropout: rate at which attention weights are dropped, the others scaled up.
        implementation: what computes it, all the same:
            "tiled": dense attention of tiles, window after window;
            "sdpa": the same, all windows at once, by torch's fused attention;
            "natten": natten's kernels up to 0.17, on a GPU.
            By default what :func:`automatic` chooses.

    Returns:
        (B, heads, H, W, d).
    """
    _check(query, key, value, kernel, bias)
    name = implementation or automatic(query, key, value)
    if not query.numel():
        name = "tiled"  # kernels do not know what to do with nothing
    return _IMPLEMENTATIONS[name](query, key, value, bias, kernel, dropout)


def automatic(query: Tensor, key: Tensor, value: Tensor) -> Implementation:
    """The one place where the implementation is chosen."""
    if _natten_fits(query, key, value) and _natten() is not None:
        return "natten"
    # Measured on an H100 in fp32 and bf16: 4 to 10 times faster than tiles (docs/gpu.md).
    return "sdpa" if query.is_cuda else "tiled"


def tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    tiling: Tiling,
    dropout: float = 0.0,
) -> Tensor:
    """:func:`neighborhood_attention` in PyTorch, with any tiling of the map."""
    if bias is None:
        side = 2 * tiling.kernel - 1
        bias = query.new_zeros(query.shape[1], side, side)
    return _TiledAttention.apply(query, key, value, bias, tiling, _Dropout.drawn(dropout))


@dataclass(frozen=True)
class _Dropout:
    """Masks that can be made again for the gradient."""

    rate: float
    seed: int = 0

    @staticmethod
    def drawn(rate: float) -> "_Dropout":
        """With a seed from the global generator, as torch's own dropout takes its masks."""
        return _Dropout(rate, int(torch.randint(2**62, ()))) if rate else _Dropout(0.0)

    def __call__(self, attention: Tensor, block: Block) -> Tensor:
        """0 where a weight is dropped, 1 / (1 - rate) elsewhere; multiplied onto ``attention``."""
        if not self.rate:
            return attention
        image, head = (part.start for part in block)
        generator = torch.Generator(attention.device).manual_seed(self.seed + (image << 16) + head)
        kept = torch.empty_like(attention).bernoulli_(1 - self.rate, generator=generator)
        return attention * kept / (1 - self.rate)


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    tiling: Unfolding,
    dropout: float = 0.0,
) -> Tensor:
    """Tiles as further heads of one attention, with a mask that holds the bias."""
    if bias is None:
        side = 2 * tiling.kernel - 1
        bias = query.new_zeros(query.shape[1], side, side)
    mask = tiling.mask(bias.to(_accumulator(query)))
    tiles = tiling.queries(query)
    out = F.scaled_dot_product_attention(
        tiles.flatten(1, 3),
        tiling.windows(key).flatten(1, 3),
        tiling.windows(value).flatten(1, 3),
        mask.flatten(0, 2)[None].to(query.dtype),
        dropout_p=dropout,
        scale=1.0,
    )
    return tiling.untiled(out.view(tiles.shape))


def _by_natten(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, kernel: int, dropout: float
) -> Tensor:
    kernels = _natten()
    if kernels is None:
        raise ValueError("natten up to 0.17, the last with a bias, is not installed for CUDA")
    products, averages = kernels
    # Of bfloat16, float32: natten's older kernels lack bfloat16.
    dtype = torch.float32 if query.dtype == torch.bfloat16 else query.dtype
    q, k, v = (tensor.to(dtype) for tensor in (query, key, value))
    attention = products(q, k, kernel, rpb=None if bias is None else bias.to(dtype))
    dropped = F.dropout(attention.softmax(-1).to(dtype), dropout)
    return averages(dropped, v, kernel).to(value.dtype)


def _cut_by(
    tiles: type[Tiling] | type[Unfolding], attention: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    def computed(
        query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, kernel: int, dropout: float
    ) -> Tensor:
        height, width = query.shape[2:4]
        tiling = tiles.of(height, width, kernel, device=str(query.device))
        return attention(query, key, value, bias, tiling, dropout)

    return computed


_IMPLEMENTATIONS: dict[Implementation, Callable[..., Tensor]] = {
    "tiled": _cut_by(Tiling, tiled_attention),
    "sdpa": _cut_by(Unfolding, fused_attention),
    "natten": _by_natten,
}


@cache
def _natten() -> tuple[Callable[..., Tensor], Callable[..., Tensor]] | None:
    """Products of queries and keys, and averages of values; up to natten 0.17, with a bias.

    Its import asks torch for a name of a type that today's torch lacks.
    """
    missing = "_device_t" not in vars(torch.cuda)
    try:
        if missing:
            torch.cuda._device_t = Any  # type: ignore[attr-defined]
        from natten.context import has_cuda
        from natten.functional import na2d_av, na2d_qk
    except ImportError:
        return None
    finally:
        if missing:
            del torch.cuda._device_t  # type: ignore[attr-defined]
    return (na2d_qk, na2d_av) if has_cuda() else None


def _natten_fits(*tensors: Tensor) -> bool:
    """natten refuses the bias' gradient where determinism is demanded."""
    first = tensors[0]
    return (
        first.is_cuda
        and first.numel() > 0
        and first.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and all(tensor.dtype == first.dtype for tensor in tensors)
        and not torch.are_deterministic_algorithms_enabled()
    )


class _TiledAttention(torch.autograd.Function):
    """Keeps its inputs only and computes the attention again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        tiling: Tiling,
        dropout: _Dropout,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, bias)
        ctx.tiling, ctx.dropout = tiling, dropout
        biases = tiling.biases(bias.to(_accumulator(query)))
        out = torch.empty_like(value)
        for block in _blocks(query, tiling):
            q, k = tiling.queries(query[block]), tiling.windows(key[block])
            attention = dropout(_logits(q, k, biases, block).softmax(-1), block).to(value.dtype)
            out[block] = tiling.untiled(attention @ tiling.windows(value[block]))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        accumulator = _accumulator(query)
        biases = tiling.biases(bias.to(accumulator))
        for_bias = ctx.needs_input_grad[3]
        grad_biases = [torch.zeros_like(part) for _, part in biases if for_bias]
        grad_query = torch.empty_like(query)
        grad_key, grad_value = (torch.zeros_like(t, dtype=accumulator) for t in (key, value))
        for block in _blocks(query, tiling):
            q, g = tiling.queries(query[block]), tiling.queries(grad[block])
            k, v = tiling.windows(key[block]), tiling.windows(value[block])
            logits = _logits(q, k, biases, block)
            with torch.enable_grad():
                attention = ctx.dropout(logits.requires_grad_().softmax(-1), block)
            grad_attention = (g @ v.mT).to(accumulator)
            (grad_logits,) = torch.autograd.grad(attention, logits, grad_attention)
            for (tiles, _), grad_bias in zip(biases, grad_biases, strict=for_bias):
                grad_bias[block[1]] += grad_logits[tiles].sum((0, 2, 3))[:, None, None]
            tiling.add_windows(attention.detach().to(g.dtype).mT @ g, grad_value[block])
            grad_logits = grad_logits.to(q.dtype)
            grad_query[block] = tiling.untiled(grad_logits @ k)
            tiling.add_windows(grad_logits.mT @ q, grad_key[block])
        whole_bias = tiling.bias_gradient(grad_biases).to(bias.dtype) if for_bias else None
        return (
            grad_query,
            grad_key.to(key.dtype),
            grad_value.to(value.dtype),
            whole_bias,
            None,
            None,
        )


def _logits(query: Tensor, key: Tensor, biases: Biases, block: Block) -> Tensor:
    logits = (query @ key.mT).to(_accumulator(query))
    for tiles, bias in biases:
        logits[tiles].add_(bias[block[1]])
    return logits


def _accumulator(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _blocks(query: Tensor, tiling: Tiling) -> Iterator[Block]:
    """Whole images if one fits, else some heads of one image."""
    batch, heads = query.shape[:2]
    budget = LOGITS_CPU if query.device.type == "cpu" else LOGITS_GPU
    pairs = max(1, budget // tiling.logits)  # of image and head
    images, some = max(1, pairs // heads), min(pairs, heads)
    for image, head in product(range(0, batch, images), range(0, heads, some)):
        yield slice(image, image + images), slice(head, head + some)


def _check(query: Tensor, key: Tensor, value: Tensor, kernel: int, bias: Tensor | None) -> None:
    if query.ndim != 5 or not query.shape == key.shape == value.shape:
        raise ValueError(
            f"query, key and value of shapes {tuple(query.shape)}, {tuple(key.shape)} and "
            f"{tuple(value.shape)}; expected one shape (B, heads, H, W, d)"
        )
    _, heads, height, width, _ = query.shape
    if kernel % 2 == 0 or kernel > min(height, width):
        raise ValueError(
            f"kernel {kernel} on a map of {height} x {width}; expected an odd number, at most the "
            "map's smaller side"
        )
    side = 2 * kernel - 1
    if bias is not None and bias.shape != (heads, side, side):
        raise ValueError(
            f"bias of shape {tuple(bias.shape)}; expected {(heads, side, side)} for {heads} heads "
            f"and kernel {kernel}"
        )

"""Compiling the parts of the network that consist of torch's own operations."""

from collections.abc import Callable
from typing import Any

from detector.network.attention import GatedFeedForward
from detector.network.model import HybridDetector


def compile_parts(
    model: HybridDetector, backend: str | Callable[..., Any] = "inductor", *, one_size: bool = True
) -> None:
    """Has ``torch.compile`` make kernels of the neck and the feed-forward layers.

    The deformable and the neighborhood operations are loops over tiles, which the compiler would
    unroll for minutes; they stay as they are. No tensor is renamed.

    With input sizes that vary (not ``one_size``) the kernels are for any size: one kernel per size
    would be compiled for few of them, after which torch gives up and runs the layers as they are.
    """
    dynamic = not one_size
    model.neck.compile(backend=backend, dynamic=dynamic)
    for module in model.modules():
        if isinstance(module, GatedFeedForward):
            module.compile(backend=backend, dynamic=dynamic)

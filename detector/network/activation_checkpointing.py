"""Activation checkpointing: layers whose activations are computed again in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from detector.network.model import HybridDetector


def checkpoint_activations(model: HybridDetector) -> None:
    """Makes the backbone's blocks and the transformer's layers forget what they can compute again.

    The modules stay where they are and no tensor is renamed; values, gradients and random draws
    stay the same to the bit. Acts in training only.
    """
    backbone = model.backbone
    stages = (backbone.stage0, backbone.stage1, backbone.stage2, backbone.stage3)
    for layer in (
        *(block for stage in stages for block in stage.children()),
        *model.encoder.layers,
        *model.decoder.layers,
    ):
        layer.forward = _checkpointed(layer, layer.forward)


def _checkpointed(layer: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    norms = [module for module in layer.modules() if isinstance(module, nn.BatchNorm2d)]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _counted_once(norms)

    def wrapped(*args: Any) -> Any:
        if layer.training and torch.is_grad_enabled():
            return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)
        return forward(*args)

    return wrapped


@contextmanager
def _counted_once(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Batch norms leave their running statistics alone: the first forward pass added to them."""
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches

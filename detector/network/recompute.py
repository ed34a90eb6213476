"""Trading time for memory: layers whose activations are computed again in the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from detector.network.model import HybridDetector


def recompute_activations(model: HybridDetector) -> None:
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
        layer.forward = _recomputed(layer, layer.forward)


def _recomputed(layer: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any) -> Any:
        if layer.training and torch.is_grad_enabled():
            return checkpoint(forward, *args, use_reentrant=False)
        return forward(*args)

    return wrapped

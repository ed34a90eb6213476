"""Parameter groups and the learning-rate schedule of the hybrid detector."""

import math
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import nn

from detector.network.layers import LayerScale
from detector.network.modules.gate_fuse import GateFuse, KernelGate
from detector.training.recipes.loop_recipe import LoopOptions

BETAS, EPSILON = (0.9, 0.999), 1e-6
EMBEDDINGS = ("content", "position", "labels", "level_embed")  # bare tables of parameters


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, multipliers: dict[str, float]
) -> list[dict[str, object]]:
    """AdamW groups ``kind`` and ``kind.decay``; every parameter to train is in exactly one.

    Only matrices and kernels of linear and convolution layers decay; biases, norms, scales,
    embeddings and sampling offsets do not.
    """
    groups: dict[str, list[nn.Parameter]] = defaultdict(list)
    for kind, decays, parameter in _classified(model):
        if not parameter.requires_grad:
            continue
        groups[f"{kind}.decay" if decays else kind].append(parameter)
    return [
        {
            "name": name,
            "params": parameters,
            "lr": lr * multipliers[name.removesuffix(".decay")],
            "weight_decay": weight_decay if name.endswith(".decay") else 0.0,
        }
        for name, parameters in groups.items()
    ]


def adamw(
    model: nn.Module, options: LoopOptions, multipliers: dict[str, float]
) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameter_groups(model, options.lr, options.weight_decay, multipliers),
        betas=BETAS,
        eps=EPSILON,
        fused=True,  # which can skip a step on the device itself
    )


def offset_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What decides where is sampled; clipped on its own, since it is the touchiest part."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if "offset_mask" in name or "sampling_offsets" in name
    ]


def learning_rate_factor(step: int, warmup: int, total: int, start: float, end: float) -> float:
    """Share of a group's rate at optimizer step ``step`` (from 0) of ``total``.

    Linear from ``start`` to 1 over ``warmup`` steps, then a cosine down to ``end``: a pure
    function of the step, so that a resumed run continues it exactly.
    """
    if step < warmup:
        return start + (1 - start) * step / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    return end + (1 - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _classified(model: nn.Module) -> Iterator[tuple[str, bool, nn.Parameter]]:
    """(kind, whether it decays, parameter), each parameter once."""
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            yield *_kind(module_name, module, name, parameter), parameter


def _kind(
    module_name: str, module: nn.Module, name: str, parameter: torch.Tensor
) -> tuple[str, bool]:
    region, _, _ = module_name.partition(".")
    _, _, parent = module_name.rpartition(".")
    if name == "relative_position_bias":
        return "position_bias", False
    if name in EMBEDDINGS:
        return "embeddings", False
    if isinstance(module, LayerScale):
        return "layer_scale", False
    if parameter.ndim == 0 or isinstance(module, GateFuse | KernelGate):
        return "scalars", False
    if parent == "offset_mask":
        return "dcn_offsets", False
    if parent == "sampling_offsets" and name == "bias":
        return "sampling_bias", False
    if region not in ("backbone", "neck", "classifier"):  # the last is of pretraining
        region = "transformer"
    matrix = isinstance(module, nn.Linear | nn.Conv2d) and name == "weight"
    return region, matrix or name == "in_proj_weight"

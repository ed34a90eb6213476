"""Checkpoints of the thesis notebooks to ours, and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from detector.config import HybridConfig, preset
from detector.network import legacy

KEPT = ("epoch", "best_ap", "history")  # of a run's file, beside the weights

# What the shapes of a notebook checkpoint tell, and what acts in training only.
SIZES = {
    "num_classes", "norm", "layer_scale", "widths", "depths", "attention_depth", "attention_heads",
    "attention_kernel", "mlp_ratio", "d_model", "neck_repeats", "encoder_layers", "decoder_layers",
    "decoder_points", "queries",
}  # fmt: skip
OF_TRAINING = {
    "image_size", "pad_color", "drop_path", "stage2_dropout", "dense_prior", "query_std",
    "transformer_drop_path", "deformable_dropout",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Conversion:
    """What goes into the new file, and what of the old one does not.

    ``content`` is what ``torch.save`` is to write; None where the weights are to be written alone.
    """

    state: Mapping[str, torch.Tensor]
    config: str
    classes: tuple[str, ...]
    content: Mapping[str, Any] | None
    renamed: int
    tensors: int
    kept: tuple[str, ...]
    dropped: tuple[str, ...]


def converted(
    checkpoint: Checkpoint, *, to_legacy: bool = False, tensors_only: bool = False
) -> Conversion:
    """A checkpoint of the hybrid detector under our names, or the notebooks'.

    Weights, config and class names, and unless ``tensors_only`` what the training run saved as
    well. Raises ``UserError`` for a model that the notebooks cannot build.
    """
    adapter = HybridAdapter.open(checkpoint)
    if to_legacy:
        _check_buildable(adapter.module.config)
    model, state = adapter.module, adapter.module.state_dict()
    names = {name: name for name in state}
    if to_legacy:
        names = legacy.to_legacy(state, model.config)
    extras: dict[str, Any] = {}
    content: dict[str, Any] | None = None
    if not tensors_only:
        extras = {
            name: checkpoint.archive.metadata[name]
            for name in KEPT
            if _is_plain(checkpoint.archive.metadata.get(name))
        }
        content = extras | {"model": {names[name]: tensor for name, tensor in state.items()}}
        if not to_legacy:
            content |= {"config": model.config.to_json(), "classes": list(adapter.classes)}
    old = set(checkpoint.tensors)
    used = {*extras, "config", "classes", checkpoint.place}
    beside = checkpoint.archive.metadata if checkpoint.place else ()  # a bare state dict has none
    return Conversion(
        state=state,
        config=model.config.to_json(),
        classes=adapter.classes,
        content=content,
        renamed=len(set(names.values()) - old),
        tensors=len(names),
        kept=tuple(extras),
        dropped=tuple(sorted(str(key) for key in beside if str(key) not in used)),
    )


def _is_plain(value: Any) -> bool:
    """Is it numbers, texts and containers of them, and something at all?"""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return value is not None


def _check_buildable(config: HybridConfig) -> None:
    theirs = preset("thesis").to_dict()
    if config.stage2 == "gate":
        theirs |= legacy.GATE_FUSE_VARIANT
    if config.denoising != "none":
        theirs |= legacy.denoising_variant(config.queries, proposals=config.proposal_queries > 0)
    for name, value in config.to_dict().items():
        if name not in SIZES | OF_TRAINING and theirs[name] != value:
            raise UserError(
                f"the notebooks cannot build this model: {name} is {value!r}, theirs "
                f"{theirs[name]!r}"
            )
    if config.norm == "ln":
        raise UserError('the notebooks cannot build this model: norm "ln" crashes there')

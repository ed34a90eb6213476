"""The files of a pretraining run that others read, in the layouts of the thesis' notebooks."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from detector.checkpoint import save_checkpoint, save_tensors
from detector.config import HybridConfig
from detector.disk.atomic import new_text
from detector.network import legacy
from detector.training.recipes.pretrain_recipe import PretrainRecipe
from detector.training.task import Best

EXPORT = "pretrained_backbone_neck"


def write_config(path: Path, recipe: PretrainRecipe, classes: Sequence[str]) -> None:
    """``config.json``: what is trained and how, under the notebooks' keys, and ours beside them."""
    config = recipe.config(classes)
    content = {
        "model_config": {"num_classes": len(classes)} | _architecture(recipe, config),
        "training_config": _training(recipe),
        "timestamp": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        "config": config.to_dict(),
        "classes": list(classes),
    }
    text = json.dumps(content, indent=4)
    new_text(path, text, overwrite=True)


def export(folder: Path, best: Best, recipe: PretrainRecipe, classes: Sequence[str]) -> Path:
    """Writes backbone and neck, ready to be grafted, and returns the path of the first file.

    ``pretrained_backbone_neck.safetensors`` holds them under our names, with what they are in its
    metadata; the ``.pth`` holds the notebooks' names in the eight entries that their detectors
    read.

    ``best`` are weights of a ``Classifier``; its score is their accuracy on the validation images
    in percent.
    """
    config = recipe.config(classes)
    ours = {
        name: tensor
        for name, tensor in best.weights.items()
        if name.startswith(("backbone.", "neck."))
    }
    about: dict[str, Any] = {
        "accuracy": best.score,
        "model_type": "backbone_and_neck" if recipe.classifier.neck else "backbone_only",
        "is_ema": best.is_average,
        "architecture_config": _architecture(recipe, config),
        "training_config": _training(recipe),
        "info": f"ablate pretrain, epoch {best.epoch} of {recipe.training.epochs}; val top-1 in %",
    }
    names = legacy.to_legacy(ours, config)
    parts: dict[str, dict[str, Tensor] | None] = {
        f"{part}_state_dict": {
            names[name].removeprefix(f"{part}."): tensor.cpu()
            for name, tensor in ours.items()
            if name.startswith(f"{part}.")
        }
        or None
        for part in ("backbone", "neck")
    }
    path = folder / f"{EXPORT}.safetensors"
    metadata = {"pretraining": json.dumps(about), "backbone_config": config.to_json()}
    save_tensors(path, ours, metadata)
    save_checkpoint(path.with_suffix(".pth"), parts | about)
    return path


def _architecture(recipe: PretrainRecipe, config: HybridConfig) -> dict[str, Any]:
    return {
        "depths": list(config.depths),
        "drop_path_max": config.drop_path,
        "norm": config.norm,
        "use_layer_scale": config.layer_scale is not None,
        "layer_scale_init": config.layer_scale,
        "backbone_channels": list(config.widths),
        "d_model": config.d_model,
        "include_neck": recipe.classifier.neck,
        "multi_head": recipe.classifier.multi_head,
    }


def _training(recipe: PretrainRecipe) -> dict[str, Any]:
    options = recipe.training
    data = recipe.data
    return {
        "dataset": data.name if data.kind == "huggingface" else data.kind,
        "batch_size": options.batch_size,
        "num_epochs": options.epochs,
        "base_lr": options.lr,
        "weight_decay": options.weight_decay,
        "warmup_epochs": options.warmup_epochs,
        "accumulation_steps": options.accumulate,
        "use_ema": bool(options.ema),
        "ema_decay": options.ema or None,
        "precision": "fp32_strict" if options.precision == "fp32" else options.precision,
    }

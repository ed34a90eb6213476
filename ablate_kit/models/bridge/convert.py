"""A checkpoint of MMDetection as a Hugging Face folder that computes the same."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablate_kit.ablations.receipt import receipt_path
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.atomic import new_folder
from ablate_kit.checkpoints.digest import sha256
from ablate_kit.checkpoints.openmmlab import settings
from ablate_kit.checkpoints.patch import Note
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.architecture import Architecture, architecture
from ablate_kit.models.bridge.names import Origin, is_dropped, origins
from ablate_kit.models.bridge.processor import processor, test_pipeline

NAMES = "mmdetection_names.json"


@dataclass(frozen=True)
class Bridged:
    """Tensors written, zeros added, tensors of the file left out, and those that repeat a head
    which the model has once."""

    tensors: int
    zeros: int
    dropped: tuple[str, ...]
    tied: tuple[str, ...]


def to_transformers(checkpoint: Checkpoint, folder: Path, note: Note) -> Bridged:
    """Writes ``folder``, with a receipt inside, and a list of where each tensor comes from.

    Nothing of MMDetection or transformers is imported: the file's own configuration tells what
    the model is. Raises ``UserError`` where there is none, or where the model has no exact
    counterpart.
    """
    whole = settings(checkpoint.archive.metadata)
    if not isinstance(whole.get("model"), dict):
        raise UserError(
            f"{checkpoint} carries no configuration of MMDetection that can be read, so nothing "
            "tells what its tensors compute"
        )
    if checkpoint.classes is None:
        raise UserError(f"{checkpoint} carries no class names")
    model = architecture(whole["model"], checkpoint.classes)
    image_processor = processor(test_pipeline(whole), model)
    _check_colors(checkpoint, model)
    placed = origins(checkpoint.tensors, model.rules)
    tensors = _tensors(checkpoint, placed)
    zeros = {name: torch.zeros(length) for name, length in model.biases.items()}
    used = {one.source for one in placed.values()}
    unused = [name for name in checkpoint.tensors if name not in used]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as place:
        from safetensors.torch import save_file

        weights = place / "model.safetensors"
        save_file(tensors | zeros, weights, metadata={"format": "pt"})
        _write(place / "config.json", model.config)
        _write(place / "preprocessor_config.json", image_processor)
        _write(place / NAMES, {name: _text(one) for name, one in placed.items()})
        receipt = receipt_path(place, folder=True, verb="convert")
        receipt.write_text(note(sha256(weights)), encoding="utf-8")
    return Bridged(
        tensors=len(tensors),
        zeros=len(zeros),
        dropped=tuple(name for name in unused if is_dropped(name)),
        tied=tuple(name for name in unused if not is_dropped(name)),
    )


def _tensors(checkpoint: Checkpoint, placed: dict[str, Origin]) -> dict[str, torch.Tensor]:
    found = {}
    for name, one in placed.items():
        rows = checkpoint.tensor(one.source).shape[0]
        if rows % one.parts:
            raise UserError(f'"{one.source}" has {rows} rows; expected a multiple of {one.parts}')
        size = rows // one.parts
        tensor = checkpoint.read(one.source)
        # A part may not hold on to the memory of the whole.
        found[name] = tensor[one.part * size : (one.part + 1) * size].clone().contiguous()
    return found


def _check_colors(checkpoint: Checkpoint, model: Architecture) -> None:
    """The file may hold mean and deviation itself; they must be those of the configuration."""
    for key, values in (("mean", model.colors.mean), ("std", model.colors.std)):
        name = f"data_preprocessor.{key}"
        if name not in checkpoint.tensors:
            continue
        held = checkpoint.read(name).flatten()
        if not torch.allclose(held, torch.tensor(values), rtol=1e-5):
            raise UserError(f"{name} is {held.tolist()}, and the configuration says {values}")


def _text(one: Origin) -> str:
    return one.source if one.parts == 1 else f"{one.source}, part {one.part + 1} of {one.parts}"


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

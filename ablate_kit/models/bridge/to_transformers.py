"""A checkpoint of MMDetection as a Hugging Face folder that computes the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ablate_kit import text as safe
from ablate_kit.ablations.receipt import receipt_path
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import sha256
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.checkpoints.openmmlab import settings
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.architecture import Architecture, architecture
from ablate_kit.models.bridge.processor import processor, test_pipeline
from ablate_kit.models.bridge.tensor_names import TensorOrigin, is_dropped, origins
from detector.disk.atomic import new_folder

NAMES = "mmdetection_names.json"


@dataclass(frozen=True)
class Bridge:
    """How a checkpoint becomes a Hugging Face folder.

    ``placed`` says where each tensor of the folder comes from. ``dropped`` are the tensors of the
    file that compute nothing, and ``tied`` those that repeat a head which the model has once.
    """

    checkpoint: Checkpoint
    model: Architecture
    processor: Mapping[str, Any]
    placed: Mapping[str, TensorOrigin]
    dropped: tuple[str, ...]
    tied: tuple[str, ...]

    def write(self, folder: Path, note: Note) -> None:
        """Writes ``folder``, with a receipt inside, and a list of where each tensor is from."""
        tensors = _tensors(self.checkpoint, self.placed)
        tensors |= {name: torch.zeros(length) for name, length in self.model.biases.items()}
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as place:
            weights = place / "model.safetensors"
            save_file(tensors, weights, metadata={"format": "pt"})
            _write(place / "config.json", self.model.config)
            _write(place / "preprocessor_config.json", self.processor)
            _write(place / NAMES, {name: str(one) for name, one in self.placed.items()})
            receipt = receipt_path(place, folder=True, verb="convert")
            receipt.write_text(note(sha256(weights)), encoding="utf-8")


def to_transformers(checkpoint: Checkpoint) -> Bridge:
    """Nothing of MMDetection or transformers is imported: the file's own configuration tells what
    the model is.

    Raises ``UserError`` where there is none, or where the model has no exact counterpart.
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
    _check_colors(checkpoint, model)
    placed = origins(checkpoint.tensors, model.rules)
    used = {one.source for one in placed.values()}
    unused = [name for name in checkpoint.tensors if name not in used]
    return Bridge(
        checkpoint,
        model,
        processor(test_pipeline(whole), model),
        placed,
        dropped=tuple(name for name in unused if is_dropped(name)),
        tied=tuple(name for name in unused if not is_dropped(name)),
    )


def _tensors(checkpoint: Checkpoint, placed: Mapping[str, TensorOrigin]) -> dict[str, torch.Tensor]:
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


def _write(path: Path, values: Any) -> None:
    path.write_text(safe.to_json(values, 2) + "\n", encoding="utf-8")

"""Copying what lies beside a weights file in a Hugging Face folder."""

import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from ablate_kit.errors import CheckpointError

# Other weights would contradict the changed ones.
_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".gguf",
    ".tflite",
    ".index.json",
)
# What is no part of a model. The rest of a training's state has the suffixes of weights.
_SKIPPED = {".git", ".cache", "__pycache__", "trainer_state.json"}


def copy_others(folder: Path, target: Path, weights: Collection[Path]) -> None:
    """Copy all files of ``folder`` and its subfolders to ``target`` except for weights, ``weights``
    and what is named as such, and for the state of a training.

    Raises ``CheckpointError`` for a link that leads out of the folder.
    """
    pending = [(folder, target)]
    while pending:
        source, copy = pending.pop()
        for entry in sorted(source.iterdir()):
            if entry in weights or entry.name in _SKIPPED:
                continue
            if entry.name.lower().endswith(_WEIGHT_SUFFIXES):
                continue
            mode = entry.lstat().st_mode
            if stat.S_ISDIR(mode):
                (copy / entry.name).mkdir()
                pending.append((entry, copy / entry.name))
            elif stat.S_ISREG(mode):
                shutil.copyfile(entry, copy / entry.name)
            elif stat.S_ISLNK(mode):
                shutil.copyfile(followed(entry, folder), copy / entry.name)


def followed(link: Path, folder: Path) -> Path:
    """The file of ``folder`` that ``link`` points to; ``CheckpointError`` if it is none of it."""
    root = folder.resolve()
    inside = [root]
    if root.parent.name == "snapshots":
        inside.append(root.parent.parent / "blobs")  # where the hub's cache keeps the files
    file = Path(os.path.realpath(link))
    if not any(file.is_relative_to(place) for place in inside) or not file.is_file():
        raise CheckpointError(
            f"{link} is a link to {file}, which is no file of the folder; copy the file there first"
        )
    return file

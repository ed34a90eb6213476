"""Checkpoints in several files: an index says which file holds which tensor.

``*.index.json`` as transformers, diffusers and accelerate write it: ``{"metadata": {...},
"weight_map": {name: file}}``.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate_kit.checkpoints.edit.folder_copies import followed
from ablate_kit.checkpoints.formats.safetensors_file import unique_keys
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.errors import CheckpointError

# The weights of a folder, as transformers looks for them.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_SUFFIX = ".index.json"
_LONGEST_INDEX = 100_000_000


@dataclass(frozen=True)
class Index:
    """``files`` names, for every tensor, the file beside ``path`` that holds it."""

    path: Path
    files: Mapping[str, Path]
    metadata: Mapping[str, Any]

    @property
    def shards(self) -> list[Path]:
        """The files, each once, in the index's order."""
        return list(dict.fromkeys(self.files.values()))

    def located(self, held: Mapping[Path, Mapping[str, TensorInfo]]) -> Iterator[TensorInfo]:
        """The tensors in the index's order, from those that each file holds.

        Raises ``CheckpointError`` where index and files contradict each other.
        """
        for name, file in self.files.items():
            if name not in held[file]:
                raise CheckpointError(
                    f"{self.path} says that {file.name} holds tensor {show(name, 80)}, "
                    "which is not there"
                )
            yield held[file][name]
        for file, tensors in held.items():
            for name in tensors:
                if self.files.get(name) != file:
                    raise CheckpointError(
                        f"{file} holds tensor {show(name, 80)}, which {self.path.name} does not "
                        "list for it"
                    )


def is_index(path: Path) -> bool:
    """Whether a file is named as an index of shards is."""
    return path.name.endswith(_SUFFIX)


def read_index(path: Path) -> Index:
    """The index at ``path``. It may name files of its own folder only."""
    with closing(FileSource(path)) as source:
        if source.size > _LONGEST_INDEX:
            raise CheckpointError(f"{path} has {source.size} bytes; an index has fewer")
        text = source.read(0, source.size)
    try:
        index = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {show(str(error), 80)}") from None
    match index:
        case {"weight_map": {**files}} if files:
            metadata = index.get("metadata")
            placed = {str(name): _beside(path, file) for name, file in files.items()}
            return Index(path, placed, metadata if isinstance(metadata, dict) else {})
    raise CheckpointError(f"{path} is not an index of shards: it has no weight_map of names")


def _beside(index: Path, name: Any) -> Path:
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise CheckpointError(
            f"{index} names the file {show(name, 80)}; expected one of its own folder"
        )
    file = index.parent / name
    if file.is_symlink():
        followed(file, index.parent)
    return file

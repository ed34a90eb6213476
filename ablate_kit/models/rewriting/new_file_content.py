"""A safetensors file to be, written with its receipt.

Its tensors are read and written one by one: a graft needs no more memory than the largest of them.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablate_kit.ablations.receipt import Receipt, text_of, versions
from ablate_kit.ablations.variant_files import PLACEHOLDER
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive
from ablate_kit.checkpoints.edit.elements import write_through
from ablate_kit.checkpoints.edit.embedded_text import Place
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.checkpoints.hub import named_by_commit
from detector.disk.atomic import new_file
from detector.disk.safetensors_head import TensorLayout, safetensors_head
from detector.tensor_bytes import bytes_of


@dataclass(frozen=True)
class Content:
    """A safetensors file to be: ``read`` gives its tensors, one by one."""

    layout: TensorLayout
    metadata: Mapping[str, str]
    read: Callable[[str], torch.Tensor]


def note_for(checkpoint: Checkpoint, verb: str, settings: Mapping[str, Any]) -> Note:
    """The receipt of what a command with these settings makes of a checkpoint, from the digest of
    that."""
    base = digest_of_archive(checkpoint.archive)
    made_by = {**versions(drawn=False), "torch": torch.__version__}

    def note(output: str | None) -> str:
        return text_of(
            Receipt(
                named_by_commit(checkpoint.path),
                base,
                checkpoint.place,
                verb,
                settings,
                output or PLACEHOLDER,
                made_by,
            )
        )

    return note


def write_noted(content: Content, destination: Path, note: Note) -> None:
    """Writes a safetensors file with the receipt that ``note`` gives."""
    head, order = safetensors_head(content.layout, content.metadata)
    place = Place(head)
    start = at = len(place.embedded(note(None)))
    hashed = hashlib.sha256(head)
    with new_file(destination) as fd:
        for name in order:
            values = bytes_of(content.read(name))
            hashed.update(values)
            write_through(fd, at, values, len(values))
            at += len(values)
        write_through(fd, 0, memoryview(place.embedded(note(hashed.hexdigest()))), start)

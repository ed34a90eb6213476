"""What ``ablate convert`` writes."""

import os
from pathlib import Path

from ablate_kit.ablations.receipt import receipt_path
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import digest_of
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.models.bridge.to_transformers import Bridge
from ablate_kit.models.rewriting.new_file_content import Content, note_for, write_noted
from ablate_kit.models.rewriting.notebook_conversion import Conversion, converted
from detector.checkpoint import layout_of, save_to, weights_metadata
from detector.disk.atomic import new_file, new_text
from detector.errors import check_can_write

FORMATS = {".safetensors": "safetensors", ".pth": "torch"}


def convert(checkpoint: Checkpoint, destination: Path, *, to_legacy: bool = False) -> Conversion:
    """Writes a checkpoint under our names, or the notebooks'; the suffix says in which format."""
    done = converted(checkpoint, to_legacy=to_legacy, tensors_only=destination.suffix != ".pth")
    settings = {"to_legacy": to_legacy, "format": FORMATS[destination.suffix]}
    write_conversion(done, destination, note_for(checkpoint, "convert", settings))
    return done


def write_bridge(conversion: Bridge, destination: Path) -> None:
    """Writes what ``to_transformers`` gave as a Hugging Face folder, with its receipt."""
    note = note_for(conversion.checkpoint, "convert", conversion.settings())
    conversion.write(destination, note)


def write_conversion(done: Conversion, destination: Path, note: Note) -> None:
    if done.content is None:
        metadata = weights_metadata(done.config, done.classes)
        state = done.state
        write_noted(Content(layout_of(state), metadata, state.__getitem__), destination, note)
        return
    path = receipt_path(destination, folder=False, verb="convert")
    check_can_write(path)
    try:
        with new_file(destination) as fd:
            # To an open file, because torch writes a path's name into the file.
            with os.fdopen(os.dup(fd), "wb") as file:
                save_to(file, done.content)
            new_text(path, note(digest_of({destination: fd})))
    except BaseException:
        path.unlink(missing_ok=True)
        raise

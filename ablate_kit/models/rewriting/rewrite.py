"""Checkpoints that are written anew, because names or shapes change.

What ``ablate swap``, ``graft`` and ``convert`` write, and what ``apply`` and ``verify`` make again
from its receipt. Tensors go to the file one by one. A graft needs no more memory than the largest;
a swap builds both networks, to say by how much the output changes.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch

from ablate_kit.ablations.module_switches import Init, Swap, parse_switches, swap
from ablate_kit.ablations.pretrained_parts import Graft, detector_names, graft
from ablate_kit.ablations.receipt import Receipt, receipt_path, text_of, versions
from ablate_kit.ablations.variant_files import (
    PLACEHOLDER,
    Form,
    check_base,
    check_suffix,
    note_as_told,
)
from ablate_kit.ablations.verify_receipt import Check, not_here, original
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.digest import digest_of, digest_of_archive
from ablate_kit.checkpoints.edit.elements import write_through
from ablate_kit.checkpoints.edit.embedded_text import Place
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.checkpoints.hub import named_by_commit
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.to_transformers import Bridge, to_transformers
from ablate_kit.models.frameworks.hybrid_adapter import (
    HybridAdapter,
    class_names,
    config_and_names,
    is_hybrid,
)
from ablate_kit.models.labels.classes import ClassNames
from ablate_kit.models.rewriting.notebook_conversion import Conversion, converted
from ablate_kit.models.unsupported.number_types import check_number_types
from ablate_kit.plural import counted
from detector.checkpoint import layout_of, save_to, weights_metadata
from detector.disk.atomic import new_file, new_text
from detector.disk.safetensors_head import TensorLayout, safetensors_head
from detector.errors import check_can_write
from detector.tensor_bytes import bytes_of

FORMATS = {".safetensors": "safetensors", ".pth": "torch"}
# What conversions write; all others write safetensors.
_FORMS: Mapping[str, Form] = {
    "safetensors": "safetensors",
    "torch": "torch",
    "transformers": "folder",
}


@dataclass(frozen=True)
class Content:
    """A safetensors file to be: ``read`` gives its tensors, one by one."""

    layout: TensorLayout
    metadata: Mapping[str, str]
    read: Callable[[str], torch.Tensor]


def swapped(
    checkpoint: Checkpoint, switches: Sequence[str], init: str, seed: int
) -> tuple[Swap, Content]:
    """The checkpoint with ``switches`` set, as ``swap`` does it."""
    if init not in get_args(Init):
        raise UserError(f'init is "{init}"; expected {" or ".join(get_args(Init))}')
    adapter = HybridAdapter.open(checkpoint)
    before = adapter.module
    changes = parse_switches(switches, before.config)
    result = swap(before, changes, cast(Init, init), seed)
    state = result.model.state_dict()
    metadata = weights_metadata(result.model.config.to_json(), adapter.classes)
    return result, Content(layout_of(state), metadata, state.__getitem__)


def grafted(
    checkpoint: Checkpoint,
    source: Checkpoint,
    parts: Sequence[str],
    rules: Sequence[str],
    *,
    skip_mismatched: bool,
) -> tuple[Graft, Content]:
    """The checkpoint with ``parts`` from ``source``, as ``graft`` does it.

    Both must be open as long as the content is read. Raises ``UserError`` where tensors have
    another shape, unless these are to be skipped, where none is left, and where one holds no
    weights, by the type of its numbers.
    """
    if not is_hybrid(checkpoint):
        raise UserError(f"{checkpoint} is not a hybrid detector")
    config, live = config_and_names(checkpoint)
    own = {ours: name for name, ours in live.items()}
    here = {ours: checkpoint.tensors[name] for ours, name in own.items()}
    renamed = detector_names(source.tensors, config, rules)
    found = graft(here, source.tensors, parts, renamed)
    if found.mismatched and not skip_mismatched:
        name, (ours, theirs) = next(iter(found.mismatched.items()))
        raise UserError(
            f'{counted(len(found.mismatched), "tensor")} of another shape in {source}: "{name}" is '
            f"{theirs} there and {ours} here; give --skip-mismatched to leave them out"
        )
    if not found.loaded:
        raise UserError(
            f"every tensor of {source} has another shape than its place in {checkpoint}"
        )
    check_number_types(source, found.loaded.values())

    def read(name: str) -> torch.Tensor:
        if name in found.loaded:
            return source.read(found.loaded[name]).to(getattr(torch, here[name].dtype))
        return checkpoint.read(own[name])

    layout = {name: (info.dtype, info.shape) for name, info in here.items()}
    classes = checkpoint.classes or class_names(config.num_classes)
    return found, Content(layout, weights_metadata(config.to_json(), classes), read)


def source_of(source: Checkpoint) -> dict[str, str]:
    """How a receipt names the file that a graft took tensors from."""
    return {
        "path": named_by_commit(source.path),
        "sha256": digest_of_archive(source.archive),
        "weights": source.place,
    }


def write_content(
    content: Content,
    destination: Path,
    checkpoint: Checkpoint,
    verb: str,
    settings: Mapping[str, Any],
) -> None:
    """Writes a safetensors file with its receipt: from what, by which command and settings."""
    write_noted(content, destination, note_for(checkpoint, verb, settings))


def convert(checkpoint: Checkpoint, destination: Path, *, to_legacy: bool = False) -> Conversion:
    """Writes a checkpoint under our names, or the notebooks'; the suffix says in which format."""
    done = converted(checkpoint, to_legacy=to_legacy, tensors_only=destination.suffix != ".pth")
    settings = {"to_legacy": to_legacy, "format": FORMATS[destination.suffix]}
    _write_conversion(done, destination, note_for(checkpoint, "convert", settings))
    return done


def write_bridge(conversion: Bridge, destination: Path) -> None:
    """Writes what ``to_transformers`` gave as a Hugging Face folder, with its receipt."""
    note = note_for(conversion.checkpoint, "convert", conversion.settings())
    conversion.write(destination, note)


def recreate(
    checkpoint: Checkpoint, receipt: Receipt, destination: Path, source: Path | None = None
) -> None:
    """Writes what ``receipt`` tells of, bit for bit, with a receipt of its own.

    ``source`` is where a graft's other file is now, by default where the receipt says. Raises
    ``UserError`` where ``checkpoint`` or that file is not what it was made from, and where the new
    file comes out different, which is then removed.
    """
    check_base(checkpoint, receipt)
    check_suffix(_FORMS.get(receipt.settings.get("format", ""), "safetensors"), destination)
    check_can_write(destination)
    with _remade(checkpoint, receipt, source) as write:
        write(destination, note_as_told(receipt))


def verify_rewrite(receipt: Receipt, base: Path | None = None, source: Path | None = None) -> Check:
    """Whether the original, written anew as the receipt says, gives the same bytes."""
    if receipt.operation == "graft" and source is None:
        path = receipt.settings["from"]["path"]
        if lacking := not_here(path, "--from"):
            return Check("original", None, lacking)
    return original(receipt, base, partial(recreate, source=source))


@contextmanager
def _remade(
    checkpoint: Checkpoint, receipt: Receipt, source: Path | None
) -> Iterator[Callable[[Path, Note], None]]:
    settings = receipt.settings
    with ExitStack() as files:
        if receipt.operation == "convert" and settings["format"] == "transformers":
            names = settings.get("classes")
            classes = ClassNames(tuple(names), settings["by_id"]) if names else None
            yield to_transformers(
                checkpoint,
                heads=settings.get("heads"),
                classes=classes,
                arguments=settings.get("arguments"),
            ).write
            return
        if receipt.operation == "convert":
            done = converted(
                checkpoint,
                to_legacy=settings["to_legacy"],
                tensors_only=settings["format"] != "torch",
            )
            yield partial(_write_conversion, done)
            return
        if receipt.operation == "swap":
            _, content = swapped(
                checkpoint, settings["switches"], settings["init"], settings["seed"]
            )
        else:
            origin = settings["from"]
            opened = files.enter_context(
                open_checkpoint(source or Path(origin["path"]), origin["weights"] or None)
            )
            found = digest_of_archive(opened.archive)
            if found != origin["sha256"]:
                raise UserError(
                    f"{opened.path} has SHA-256 {found[:12]}...; the receipt took tensors from "
                    f"{origin['sha256'][:12]}... ({origin['path']})"
                )
            _, content = grafted(
                checkpoint,
                opened,
                settings["parts"].split(","),
                settings["map"],
                skip_mismatched=settings["skip_mismatched"],
            )
        yield partial(write_noted, content)


def note_for(checkpoint: Checkpoint, verb: str, settings: Mapping[str, Any]) -> Note:
    """The receipt of what an operation makes of a checkpoint, from the digest of that."""
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


def _write_conversion(done: Conversion, destination: Path, note: Note) -> None:
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

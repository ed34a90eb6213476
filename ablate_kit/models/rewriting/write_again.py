"""Swaps, grafts and conversions, made again from their receipts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ablate_kit.ablations.receipt import Receipt
from ablate_kit.ablations.variant_files import Form, check_base, check_suffix, note_as_told
from ablate_kit.ablations.verify_receipt import Check, not_here, original
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive
from ablate_kit.checkpoints.edit.patched_copy import Note
from ablate_kit.errors import UserError
from ablate_kit.models.bridge.to_transformers import to_transformers
from ablate_kit.models.labels.classes import ClassNames
from ablate_kit.models.rewriting.conversions import write_conversion
from ablate_kit.models.rewriting.grafted import grafted
from ablate_kit.models.rewriting.new_file_content import write_noted
from ablate_kit.models.rewriting.notebook_conversion import converted
from ablate_kit.models.rewriting.swapped import swapped
from detector.errors import check_can_write

# What conversions write; all others write safetensors.
_FORMS: Mapping[str, Form] = {
    "safetensors": "safetensors",
    "torch": "torch",
    "transformers": "folder",
}


def write_again(
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
    return original(receipt, base, partial(write_again, source=source))


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
            yield partial(write_conversion, done)
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

"""A variant as a checkpoint of its own, with a receipt that says what was done."""

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply import file_changes
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import digest
from ablate_kit.checkpoints.patch import copy_folder_patched, write_patched
from ablate_kit.errors import UserError

RECEIPT = "ablation.json"


def variant_path(checkpoint: Checkpoint, ablation: Ablation, output: Path) -> Path:
    """Where a variant goes in the folder ``output``: a file like the checkpoint's, or a folder."""
    suffix = "" if checkpoint.folder else checkpoint.path.suffix
    return output / f"{ablation.name}{suffix}"


def file_name(pattern: str, layers: str | None = None) -> str:
    """A pattern as the start of a file name: ``decoder.layers.{layer}.ffn`` and layers 0-2 give
    ``decoder.layers.0-2.ffn``; other wildcards become ``all``."""
    label = pattern.replace("{layer}", layers or "all")
    label = re.sub(r"\*+", "all", label).replace("{", "").replace("}", "")
    return re.sub(r"[^\w.,-]+", "_", label).strip("_") or "variant"


def write_variants(checkpoint: Checkpoint, destinations: dict[Path, Ablation]) -> None:
    """Writes one changed copy of the checkpoint per destination, and its receipt beside it.

    A Hugging Face folder gives folders that load as it does, with the receipt inside. Raises
    ``UserError`` before anything is written when one of the destinations exists.
    """
    for destination in destinations:
        for path in (destination, receipt_path(checkpoint, destination)):
            if path.exists():
                raise UserError(f"{path} exists; choose another place or remove it")
    origin = _origin(checkpoint)
    for destination, ablation in destinations.items():
        destination.parent.mkdir(parents=True, exist_ok=True)
        changes = file_changes(checkpoint, ablation)
        receipt = origin | {"ablation": ablation.to_dict(), "digest": ablation.digest}
        text = json.dumps(receipt, indent=1) + "\n"
        if checkpoint.folder:
            copy_folder_patched(checkpoint, changes, destination, notes={RECEIPT: text})
        else:
            write_patched(checkpoint.archive, changes, destination)
            receipt_path(checkpoint, destination).write_text(text)


def write_receipt(
    destination: Path, verb: str, checkpoint: Checkpoint, settings: Mapping[str, Any]
) -> None:
    """``DESTINATION.VERB.json``: what a file was made from, and how, by a command that does more
    than to set elements."""
    path = destination.with_name(f"{destination.name}.{verb}.json")
    path.write_text(json.dumps(_origin(checkpoint) | {verb: dict(settings)}, indent=1) + "\n")


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "base": {"path": str(checkpoint.path), "sha256": digest(checkpoint.archive.files)},
        "weights": checkpoint.place,
        "ablate_kit": version("ablate-kit"),
    }


def receipt_path(checkpoint: Checkpoint, destination: Path) -> Path:
    """Where the receipt of a variant is: in its folder, or beside its file."""
    if checkpoint.folder:
        return destination / RECEIPT
    return destination.with_name(f"{destination.name}.{RECEIPT}")


def read_receipt(checkpoint: Checkpoint) -> Ablation | None:
    """The ablation that a checkpoint was made by; None for one without a receipt."""
    path = receipt_path(checkpoint, checkpoint.path)
    if not path.is_file():
        return None
    try:
        return Ablation.from_dict(json.loads(path.read_text())["ablation"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not a receipt of an ablation") from None

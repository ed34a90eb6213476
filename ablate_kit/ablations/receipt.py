"""The receipt of a variant: from what it was made, how, and what came out.

It is in the metadata of a safetensors file, in a folder as ``VERB.json`` (``ablation.json`` for a
cut), and beside a file of another format as ``NAME.VERB.json``.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate_kit import __version__
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.checkpoints import Checkpoint, open_checkpoint, show
from ablate_kit.checkpoints.edit.embedded_text import KEY, place_in
from ablate_kit.errors import UserError
from detector.disk.bounded import SETTINGS, read_bounded

CUT = "ablation"
_OF_CUT = ("ablation", "digest", "selected")
# What the receipts of these must say, and as what; lists are of texts.
_SETTINGS: dict[str, dict[str, Any]] = {
    "swap": {"switches": list, "init": str, "seed": int},
    "graft": {
        "from": {"path": str, "sha256": str, "weights": str},
        "parts": str,
        "map": list,
        "skip_mismatched": bool,
    },
    "convert": {"to_legacy": bool, "format": str},
    "shrink": {"ablation": dict, "leave": bool, "with_code": bool, "depth": int, "queries": int},
}
# What a receipt may say beside them.
_OPTIONAL: dict[str, dict[str, Any]] = {"convert": {"heads": int, "classes": list, "by_id": bool}}
OPERATIONS = (CUT, *_SETTINGS)


@dataclass(frozen=True)
class Receipt:
    """``base`` and ``output`` are digests (``checkpoints.digest``); ``weights`` is the place of the
    weights in the file; ``settings`` are those of the operation (of ``CUT``, the ablation, its
    digest, and its ``selected`` on the original's shapes); ``versions`` are those of the programs
    that made it.
    """

    base_path: str
    base: str
    weights: str
    operation: str
    settings: Mapping[str, Any]
    output: str
    versions: Mapping[str, str]

    @cached_property
    def ablation(self) -> Ablation | None:
        """What was cut; None for another operation."""
        return Ablation.from_dict(self.settings["ablation"]) if self.operation == CUT else None

    @property
    def made_by(self) -> str:
        return ", ".join(f"{name} {number}" for name, number in self.versions.items())

    @property
    def settings_text(self) -> str:
        return ", ".join(f"{name} {json.dumps(value)}" for name, value in self.settings.items())

    def to_dict(self) -> dict[str, Any]:
        settings = dict(self.settings)
        return {
            "base": {"path": self.base_path, "sha256": self.base},
            "weights": self.weights,
            **(settings if self.operation == CUT else {self.operation: settings}),
            "output": {"sha256": self.output},
            "versions": dict(self.versions),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Receipt":
        """Raises ``UserError`` for what is no receipt, or contradicts itself."""
        operation = next((one for one in _SETTINGS if one in values), CUT)
        if operation != CUT:
            _check_settings(values[operation], _SETTINGS[operation], operation)
            optional = _OPTIONAL.get(operation, {})
            given = {name: kind for name, kind in optional.items() if name in values[operation]}
            _check_settings(values[operation], given, operation)
        try:
            settings = values if operation == CUT else values[operation]
            receipt = Receipt(
                str(values["base"]["path"]),
                str(values["base"]["sha256"]),
                str(values["weights"]),
                operation,
                {name: settings[name] for name in (_OF_CUT if operation == CUT else settings)},
                str(values["output"]["sha256"]),
                {str(name): str(number) for name, number in values["versions"].items()},
            )
            ablation = receipt.ablation
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"it has no {error}") from None
        if ablation and ablation.digest != receipt.settings["digest"]:
            raise UserError("its ablation is not the one of its digest: it was changed by hand")
        return receipt


def cut_settings(ablation: Ablation, selected: str) -> dict[str, Any]:
    """What the receipt of a cut says of it."""
    values = (ablation.to_dict(), ablation.digest, selected)
    return dict(zip(_OF_CUT, values, strict=True))


def _check_settings(found: Any, expected: Mapping[str, Any], where: str) -> None:
    for name, kind in expected.items():
        value: Any = found.get(name) if isinstance(found, dict) else None
        if isinstance(kind, dict):
            _check_settings(value, kind, f"{where}.{name}")
        elif (
            type(value) is not kind
            or (kind is int and not 0 <= value < 2**63)
            or (kind is list and not all(isinstance(one, str) for one in value))
        ):
            raise UserError(f"its {where}.{name} is {show(value, 40)}")


def versions(*, drawn: bool) -> dict[str, str]:
    """Of what decides about a variant's bytes; numpy does where elements are ``drawn``."""
    found = {"ablate_kit": __version__, "python": sys.version.split()[0]}
    if drawn:
        import numpy as np

        found["numpy"] = np.__version__
    return found


def text_of(receipt: Receipt) -> str:
    return json.dumps(receipt.to_dict(), indent=1) + "\n"


def receipt_path(destination: Path, *, folder: bool, verb: str = CUT) -> Path:
    """Where a receipt is that is a file of its own."""
    name = f"{verb}.json"
    return destination / name if folder else destination.parent / f"{destination.name}.{name}"


def own_path(checkpoint: Checkpoint, destination: Path) -> Path | None:
    """Where the receipt of a changed copy goes; None for into the copy itself."""
    folder = checkpoint.folder is not None
    archive = checkpoint.archive
    embedded = not folder and archive.format == "safetensors"
    if embedded and place_in(archive.sources[archive.path]):
        return None
    return receipt_path(destination, folder=folder)


def receipt_of(checkpoint: Checkpoint) -> Receipt | None:
    """What a checkpoint says it was made by; raises ``UserError`` where that cannot be read."""
    found = receipt_text(checkpoint)
    return None if found is None else _parsed(*found)


def receipt_text(checkpoint: Checkpoint) -> tuple[str, str] | None:
    """A checkpoint's receipt as it is written, and where that is; None if it has none."""
    archive, folder = checkpoint.archive, checkpoint.folder is not None
    if not folder and archive.format == "safetensors" and KEY in archive.metadata:
        return archive.metadata[KEY], str(checkpoint.path)
    own = checkpoint.path
    for place in (own, own.resolve()) if own.is_symlink() else (own,):
        for verb in OPERATIONS:
            path = receipt_path(place, folder=folder, verb=verb)
            if path.is_file():
                return _decoded(_bytes(path), path), str(path)
    return None


def read_receipt(path: Path) -> Receipt:
    """The receipt at ``path``, which is its file, or that of a checkpoint that has one."""
    # Not opened twice: it may be a pipe.
    content = None if path.is_dir() or _is_binary(path) else _bytes(path)
    if content is None:
        with open_checkpoint(path) as checkpoint:
            found = receipt_of(checkpoint)
        if found is None:
            raise UserError(f"{path} has no receipt")
        return found
    return _parsed(_decoded(content, path), str(path))


def made_by(checkpoint: Checkpoint) -> Ablation | None:
    """The ablation that a checkpoint was made by; None for one that was not."""
    found = receipt_of(checkpoint)
    return None if found is None else found.ablation


def _is_binary(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return b"\0" in file.read(4096)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _bytes(path: Path) -> bytes:
    try:
        return read_bounded(path, SETTINGS, pipes=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except ValueError:
        raise UserError(f"{path} is not valid JSON; expected a receipt") from None


def _parsed(text: str, where: str) -> Receipt:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(f"{where} is not valid JSON; expected a receipt") from None
    if not isinstance(values, dict):
        raise UserError(f"{where} is not a receipt: it is no JSON object")
    try:
        return Receipt.from_dict(values)
    except UserError as error:
        raise UserError(f"{where} is not a receipt: {error}") from None

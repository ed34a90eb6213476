"""The receipt of a variant: from what it was made, how, and what came out."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate_kit import __version__
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError

RECEIPT = "ablation.json"
OTHER_VERBS = ("swap", "graft")  # of commands whose receipts tell settings, not an ablation


@dataclass(frozen=True)
class Receipt:
    """``base`` and ``output`` are digests (``checkpoints.digest``); ``weights`` is the place of the
    weights in the file; ``selected`` is the ablation's ``selected`` on the original's shapes;
    ``versions`` are those of the programs that made it.
    """

    base_path: str
    base: str
    weights: str
    ablation: Ablation
    selected: str
    output: str
    versions: Mapping[str, str]

    @property
    def made_by(self) -> str:
        return ", ".join(f"{name} {number}" for name, number in self.versions.items())

    def to_dict(self) -> dict[str, Any]:
        return {
            **origin(self.base_path, self.base, self.weights),
            "ablation": self.ablation.to_dict(),
            "digest": self.ablation.digest,
            "selected": self.selected,
            "output": {"sha256": self.output},
            "versions": dict(self.versions),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Receipt":
        """Raises ``UserError`` for what is no receipt, or contradicts itself."""
        try:
            receipt = Receipt(
                str(values["base"]["path"]),
                str(values["base"]["sha256"]),
                str(values["weights"]),
                Ablation.from_dict(values["ablation"]),
                str(values["selected"]),
                str(values["output"]["sha256"]),
                {str(name): str(number) for name, number in values["versions"].items()},
            )
            digest = str(values["digest"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"it has no {error}") from None
        if digest != receipt.ablation.digest:
            raise UserError("its ablation is not the one of its digest: it was changed by hand")
        return receipt


def origin(path: str, sha256: str, weights: str) -> dict[str, Any]:
    """How every receipt begins."""
    return {"base": {"path": path, "sha256": sha256}, "weights": weights}


def versions(*, drawn: bool) -> dict[str, str]:
    """Of what decides about a variant's bytes; numpy does where elements are ``drawn``."""
    found = {"ablate_kit": __version__, "python": platform.python_version()}
    if drawn:
        import numpy as np

        found["numpy"] = np.__version__
    return found


def text_of(receipt: Mapping[str, Any]) -> str:
    return json.dumps(receipt, indent=1) + "\n"


def receipt_path(checkpoint: Checkpoint, destination: Path) -> Path:
    """Where the receipt of a variant is: in its folder, or beside its file."""
    if checkpoint.folder:
        return destination / RECEIPT
    return destination.with_name(f"{destination.name}.{RECEIPT}")


def read_receipt(path: Path) -> Receipt:
    """The receipt at ``path``; raises ``UserError`` if it is none of an ablation."""
    values = read_json(path)
    for verb in OTHER_VERBS:
        if verb in values:
            raise UserError(
                f"{path} is a receipt of ablate {verb}, which no ablation repeats; run ablate "
                f"{verb} with its settings"
            )
    try:
        return Receipt.from_dict(values)
    except UserError as error:
        raise UserError(f"{path} is not a receipt of an ablation: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not valid JSON; expected a receipt") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a receipt: it is no JSON object")
    return values


def made_by(checkpoint: Checkpoint) -> Ablation | None:
    """The ablation that a checkpoint was made by; None for one without a receipt."""
    path = receipt_path(checkpoint, checkpoint.path)
    return read_receipt(path).ablation if path.is_file() else None

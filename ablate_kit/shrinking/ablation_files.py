"""What is to be taken out, as files say it: ablations, receipts, and copies that carry one."""

import json
from collections.abc import Sequence
from pathlib import Path

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.kinds.means import with_parts
from ablate_kit.ablations.receipt import read_receipt
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError
from detector.disk.bounded import SETTINGS, read_bounded
from detector.disk.visible import visible


def ablation_of_files(paths: Sequence[Path], checkpoint: Checkpoint) -> Ablation:
    """All of ``read_ablations`` of these files and folders at once."""
    found = [one for path in paths for one in read_ablations(path)]
    return joined(*(with_parts(one, checkpoint) for one in found))


def read_ablation(path: Path) -> Ablation:
    """An ablation as JSON, a receipt, or a checkpoint that carries one."""
    text = _text(path)
    values = None
    if text is not None:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise UserError(
                f"{path} is not valid JSON; expected an ablation or a receipt"
            ) from None
    if isinstance(values, dict) and "edits" in values:
        try:
            return Ablation.from_dict(values)
        except UserError as error:
            raise UserError(f"{path} is {error}") from None
    receipt = read_receipt(path)
    if receipt.ablation is None:
        raise UserError(f"{path} is the receipt of ablate {receipt.operation}, not of an ablation")
    return receipt.ablation


def read_ablations(path: Path) -> list[Ablation]:
    """``read_ablation`` of a file or a variant's folder, or of all in a folder of variants."""
    if not path.is_dir() or (path / "config.json").exists():
        return [read_ablation(path)]
    inside = visible(path)
    if not inside:
        raise UserError(f"{path} is an empty folder; expected variants")
    return [read_ablation(one) for one in inside]


def _text(path: Path) -> str | None:
    """Of a text; None of a folder and of what is not UTF-8."""
    if path.is_dir():
        return None
    try:
        content = read_bounded(path, SETTINGS)
    except UserError:
        return None  # larger than any ablation: a checkpoint, perhaps
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = content.decode()
    except ValueError:
        return None
    return None if "\0" in text else text

"""Whether a checkpoint is what its receipt says."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import check_fits, encoded, parts
from ablate_kit.ablations.edits import Edit, Random
from ablate_kit.ablations.receipt import Receipt
from ablate_kit.ablations.variant_files import check_base, recreate
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive, digest_without_receipt
from ablate_kit.checkpoints.edit.elements import carrier
from ablate_kit.checkpoints.hub import downloaded, is_hub_id
from ablate_kit.checkpoints.values import read_bits
from ablate_kit.errors import CheckpointError, UserError
from detector.disk.atomic import CannotWriteError


@dataclass(frozen=True)
class Check:
    """``passed`` is None where it could not be made; ``detail`` says what was found."""

    name: str
    passed: bool | None
    detail: str


def verify(checkpoint: Checkpoint, receipt: Receipt, base: Path | None = None) -> Iterator[Check]:
    """The checks of a checkpoint against its receipt, as far as the ablation alone allows.

    ``base`` is where the original is now, by default where the receipt says. Raises ``UserError``
    where ``base`` is given and is not the original.
    """
    yield _bytes(checkpoint, receipt)
    if receipt.ablation:
        yield from _elements(checkpoint, receipt, receipt.ablation)
        yield original(receipt, base, recreate)


def _elements(checkpoint: Checkpoint, receipt: Receipt, ablation: Ablation) -> Iterator[Check]:
    try:
        check_fits(checkpoint, ablation)
    except UserError as error:
        yield Check("elements", False, str(error))
        return
    same = ablation.selected(checkpoint.shapes) == receipt.settings["selected"]
    yield Check(
        "selection", same, "the elements that the receipt selects" if same
        else f"other elements are drawn than by {receipt.made_by}",
    )  # fmt: skip
    by_tensor: dict[str, list[Edit]] = {}
    for edit in ablation.edits:
        by_tensor.setdefault(edit.tensor, []).append(edit)
    wrong = [name for name, edits in by_tensor.items() if not _holds(checkpoint, name, edits)]
    count = len(by_tensor)
    yield Check(
        "values", not wrong, f"{count} tensors hold what the ablation sets" if not wrong
        else f"{len(wrong)} of {count} tensors hold other values, such as {wrong[0]}",
    )  # fmt: skip


def _bytes(checkpoint: Checkpoint, receipt: Receipt) -> Check:
    archive = checkpoint.archive
    found = digest_of_archive(archive) if checkpoint.folder else digest_without_receipt(archive)
    if found == receipt.output:
        return Check("bytes", True, f"SHA-256 {found}")
    return Check("bytes", False, f"SHA-256 {found}, and the receipt says {receipt.output}")


def _holds(checkpoint: Checkpoint, name: str, edits: Sequence[Edit]) -> bool:
    """Whether its edits, made again, would change nothing of a tensor."""
    info = checkpoint.tensor(name)
    try:
        held = np.ascontiguousarray(read_bits(checkpoint.archive, info)).reshape(info.shape)
    except CheckpointError:  # such as one that does not have its checksum
        return False
    again = held.copy()
    for edit in edits:
        values = [
            np.frombuffer(encoded(part, info), carrier(info.itemsize))
            for part in parts(edit, info.shape)
        ]
        _set(again, edit, values)
    return np.array_equal(held, again)


def _set(array: Any, edit: Edit, values: Sequence[Any]) -> None:
    """Sets the elements; of each block one value, or one for each element."""
    if isinstance(edit.region, Random):
        for part in edit.region.parts(edit.tensor, array.shape):
            array.reshape(-1)[part] = values[0]
        return
    for block, value in zip(edit.region.slices(), values, strict=True):
        view = array[(*block, ...)]
        view[...] = value if value.size == 1 else value.reshape(view.shape)


def exists(path: str) -> bool:
    """Also for a name that no file can have: ``Path.exists`` raises for one that is too long."""
    return os.path.exists(path)  # noqa: PTH110


def not_here(path: str, option: str) -> str:
    """Why nothing is compared with a receipt's file; empty where that is at its place."""
    if is_hub_id(path):
        try:
            downloaded(Path(path))
        except UserError as error:
            return f"not here: {error}"
    elif not exists(path):
        return f"not here: {path}; give {option} to compare with it"
    return ""


def original(
    receipt: Receipt, base: Path | None, again: Callable[[Checkpoint, Receipt, Path], None]
) -> Check:
    """Whether what the receipt tells of, done ``again`` to the original, gives the same bytes."""
    if base is None and (lacking := not_here(receipt.base_path, "--base")):
        return Check("original", None, lacking)
    with open_checkpoint(base or Path(receipt.base_path), receipt.weights or None) as opened:
        try:
            check_base(opened, receipt)
        except UserError as error:
            if base is not None:
                raise
            return Check("original", None, f"changed since: {error}")
        with tempfile.TemporaryDirectory() as folder:
            try:
                again(opened, receipt, Path(folder) / "again")
            except CannotWriteError:
                raise  # which says nothing of the copy
            except UserError as error:
                return Check("original", False, str(error))
    return Check("original", True, f"{opened.path} gives the same bytes again")

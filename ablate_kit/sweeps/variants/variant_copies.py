"""A sweep's variants as checkpoints of their own, where they can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.apply_edits import check_fits
from ablate_kit.ablations.receipt import receipt_of
from ablate_kit.ablations.variant_files import check_free, variant_paths
from ablate_kit.checkpoints import Checkpoint, open_checkpoint
from ablate_kit.checkpoints.digest import digest_of_archive
from ablate_kit.errors import UserError


@dataclass(frozen=True)
class Copies:
    """What of a sweep is written, and what is not.

    Attributes:
        missing: changed copies to be made, by their place.
        there: copies that an earlier call of the same sweep made.
        impossible: names of variants that no file can hold, and why.
    """

    missing: Mapping[Path, Ablation]
    there: Sequence[Path]
    impossible: Mapping[str, str]


def plan_copies(checkpoint: Checkpoint, ablations: Sequence[Ablation], folder: Path) -> Copies:
    """What is to be written to ``folder``.

    Raises ``UserError`` where something else is at a copy's place.
    """
    missing: dict[Path, Ablation] = {}
    there: list[Path] = []
    impossible: dict[str, str] = {}
    base = ""
    for path, ablation in variant_paths(checkpoint, ablations, folder).items():
        try:
            check_fits(checkpoint, ablation)
        except UserError as error:
            impossible[ablation.name] = str(error)
            continue
        if not path.exists():
            missing[path] = ablation
            continue
        with open_checkpoint(path) as copy:
            made = receipt_of(copy)
        if made is None or made.ablation is None or made.ablation.digest != ablation.digest:
            raise UserError(f"{path} is another variant; choose another place or remove it")
        base = base or digest_of_archive(checkpoint.archive)
        if made.base != base:
            raise UserError(
                f"{path} was made from another checkpoint; choose another place or remove it"
            )
        there.append(path)
    check_free(checkpoint, missing)
    return Copies(missing, there, impossible)

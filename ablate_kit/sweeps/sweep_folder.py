"""The folder of an open sweep: the run in it, begun or found again, and how far it is."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ablate_kit.errors import UserError
from ablate_kit.sweeps.estimates.sweep_size import size_of
from ablate_kit.sweeps.open_sweep import OpenSweep
from ablate_kit.sweeps.provenance.about import About
from ablate_kit.sweeps.provenance.data_digest import DataDigest, data_digest
from ablate_kit.sweeps.provenance.fingerprint import fingerprint_of
from ablate_kit.sweeps.recipes.recipe_text import recipe_text
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_folder.screened import screened
from ablate_kit.sweeps.variants.variant import UNMODIFIED

Check = Callable[[Mapping[str, Any]], None]


def ledger_of(
    sweep: OpenSweep, folder: Path, workers: int = 2, check: Check = lambda _: None
) -> Ledger:
    """The run of a sweep in a folder, or a new one; hold ``Ledger.locked(folder)``.

    ``check`` is given what it is made from, before anything of it is written.

    Raises:
        UserError: the folder holds another sweep, or something else.
    """
    data = data_digest(sweep.dataset, workers)
    inputs = _inputs(sweep, data)
    check(inputs)
    found = Ledger(folder, inputs)
    found.note(data.notes(sweep.recipe.evaluation.cluster))
    if sweep.recipe.screen and (known := screened(folder)):
        sweep.ablations = known.chosen(sweep.ablations)
    return found


def begin(
    sweep: OpenSweep, folder: Path, command: str, workers: int = 2, check: Check = lambda _: None
) -> Ledger:
    """``ledger_of``, which says from now on what the run is about and how it was begun."""
    found = ledger_of(sweep, folder, workers, check)
    found.describe(recipe_text(sweep.recipe))
    About.of(sweep.recipe, sweep.dataset, command, found.inputs["framework"]).keep(folder)
    return found


def done(sweep: OpenSweep, ledger: Ledger) -> tuple[bool, str]:
    """Whether anything is done, and how much, in words."""
    variants, batches = sweep.variants, sweep.batches
    named, _ = ledger.done(variants, batches)
    finished, some = ledger.done([UNMODIFIED, *variants], batches)
    progress = f"{named} of {len(variants)} variants"
    if later := size_of(sweep).later:
        chosen = f"{min(later, ledger.count - finished)} of {later} variants chosen on the way"
        progress = f"{progress} and {chosen}" if variants else chosen
    if finished < len(variants) + 1:
        progress += f" and {some} of {len(batches)} batches of images for the others"
        return bool(finished or some), progress
    return True, progress


def check_unchanged(sweep: OpenSweep, ledger: Ledger, workers: int) -> None:
    """Raises ``UserError`` where a file changed, and forgets what is not finished."""
    try:
        now = _inputs(sweep, data_digest(sweep.dataset, workers))
        for name in ("checkpoint", "configuration", "data"):
            if now[name] != ledger.inputs[name]:
                raise UserError(
                    f"the {name} changed on disk while the sweep ran; give the command again "
                    "with another folder"
                )
    except UserError:
        ledger.tidy()
        raise


def _inputs(sweep: OpenSweep, data: DataDigest) -> dict[str, Any]:
    recipe, looks = sweep.recipe, sweep.looks
    found = fingerprint_of(
        recipe, sweep.checkpoint, sweep.dataset, sweep.placement.devices[0], data
    )
    if looks:  # by which variants stop where they do
        told = recipe.evaluation.statistics
        found["race"] = (
            f"{looks}; margin {told.margin:g}; {told.resamples} resamples, seed {told.seed}"
        )
    found |= sweep.donation.inputs
    if recipe.screen:
        found["screen"] = recipe.screen.model_dump()
    return found

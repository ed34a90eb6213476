"""What commands share that run the sweep of one checkpoint in a folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.cli.output import Told, progress, this_command, warn

if TYPE_CHECKING:
    from ablate_kit.sweeps.backends.worker import RunOptions
    from ablate_kit.sweeps.ledger import Ledger
    from ablate_kit.sweeps.open_sweep import OpenSweep


def ledger_of(opened: "OpenSweep", folder: Path, workers: int = 2) -> "Ledger":
    """The run's folder, which says from now on what it is about."""
    from ablate_kit.sweeps.about import About
    from ablate_kit.sweeps.recipes.recipe_text import recipe_text

    ledger = opened.ledger(folder, workers)
    ledger.describe(recipe_text(opened.recipe))
    About.of(opened.recipe, opened.dataset, this_command()).keep(folder)
    return ledger


def run_to_its_end(opened: "OpenSweep", ledger: "Ledger", options: "RunOptions") -> None:
    """Evaluates what the ledger lacks, with a progress display."""
    from ablate_kit.sweeps.run import Progress

    with progress() as bars:
        watch = Told(bars, opened.batches)
        watched = Progress(begin=watch.begin, advance=watch.advance)
        warn(opened.run(ledger, options, watched).notes)

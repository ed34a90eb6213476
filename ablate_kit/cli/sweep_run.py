"""What commands share that run a sweep in a folder."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ablate_kit.cli.output import Told, progress, this_command

if TYPE_CHECKING:
    from ablate_kit.sweeps.ledger import Ledger
    from ablate_kit.sweeps.open_sweep import OpenSweep
    from ablate_kit.sweeps.race import Watch
    from ablate_kit.sweeps.run import Progress


def ledger_of(opened: "OpenSweep", folder: Path, workers: int = 2) -> "Ledger":
    """The run's folder, which says from now on what it is about."""
    from ablate_kit.sweeps.about import About
    from ablate_kit.sweeps.recipes.recipe_text import recipe_text

    ledger = opened.ledger(folder, workers)
    ledger.describe(recipe_text(opened.recipe))
    model = ledger.inputs["framework"]
    About.of(opened.recipe, opened.dataset, this_command(), model).keep(folder)
    return ledger


@contextmanager
def watched(batches: Sized, look: "Watch" = lambda _: None) -> "Iterator[Progress]":
    """Shows how far a run is; ``look``: told what a look of a race has come to."""
    from ablate_kit.sweeps.run import Progress

    with progress() as bars:
        watch = Told(bars, batches)
        yield Progress(begin=watch.begin, advance=watch.advance, look=look)

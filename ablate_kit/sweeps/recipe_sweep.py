"""A recipe's sweep: opened, to see what it would cost, or run whole.

Examples:
    recipe = load_sweep(Path("recipe.yaml"))
    with open_sweep(recipe) as sweep:
        print(pass_cost(sweep, memory=2 << 30).share)
    outcome = run(recipe, Path("runs/heads"))
    print(outcome.ledger.results()[0].evaluation.overall["AP"])
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ablate_kit.models.adapter import Adapter
from ablate_kit.sweeps.backends.placement import HERE, Placement
from ablate_kit.sweeps.backends.worker import DEFAULTS, RunOptions
from ablate_kit.sweeps.open_sweep import OpenSweep, opened
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import UNWATCHED, Progress
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_sweep import SweepRun, run_sweep
from ablate_kit.sweeps.sweep_folder import ledger_of
from detector.training.devices import thread_count


@contextmanager
def open_sweep(
    recipe: SweepRecipe,
    placement: Placement = HERE,
    *,
    threads: int | None = None,
    adapter: Adapter | None = None,
) -> Iterator[OpenSweep]:
    """What a recipe names, opened.

    Args:
        threads: of a CPU's forward pass, in each process; by default as many as torch takes.
        adapter: the model, where it is open already.

    Raises:
        UserError: something of it is not there, or does not fit together.
    """
    placement.check()
    recipe = recipe.with_commits()
    with ExitStack() as stack:
        stack.enter_context(thread_count(threads))
        checkpoint = stack.enter_context(recipe.model.opened())
        yield opened(recipe, placement, checkpoint, adapter)


def run(
    recipe: SweepRecipe,
    folder: Path,
    placement: Placement = HERE,
    options: RunOptions = DEFAULTS,
    progress: Progress = UNWATCHED,
) -> SweepRun:
    """A whole sweep in a folder of its own, continued where it was stopped.

    Raises:
        UserError: something that the recipe names is not there, the folder holds something else,
            or another process is at work in it.
    """
    with (
        Ledger.locked(folder),
        open_sweep(recipe, placement, threads=Ledger.threads(folder)) as sweep,
    ):
        outcome = run_sweep(sweep, ledger_of(sweep, folder, options.workers), options, progress)
        return replace(outcome, notes=[*sweep.notes, *outcome.notes])

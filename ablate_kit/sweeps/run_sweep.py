"""A sweep, run until the ledger lacks nothing, and closed.

Examples:
    recipe = load_sweep(Path("recipe.yaml"))
    with open_sweep(recipe) as sweep:
        print(pass_cost(sweep, memory=2 << 30).share)
    outcome = run(recipe, Path("runs/heads"))
    print(outcome.ledger.results()[0].evaluation.overall["AP"])
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.sweeps.backends.placement import HERE, Placement
from ablate_kit.sweeps.backends.process_backend import processes
from ablate_kit.sweeps.backends.ray_backend import cluster
from ablate_kit.sweeps.backends.worker import (
    DEFAULTS,
    Here,
    RunOptions,
    Worker,
    WorkerSpec,
    prepared_bytes,
)
from ablate_kit.sweeps.open_sweep import OpenSweep, open_sweep
from ablate_kit.sweeps.recipes.recipe_rounds import RecipeRounds, Search
from ablate_kit.sweeps.recipes.screening import screen
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import UNWATCHED, Progress, begun, run_stretches
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_folder.screened import screened
from ablate_kit.sweeps.scheduling.engine import Pool
from ablate_kit.sweeps.scheduling.race import Race
from ablate_kit.sweeps.scheduling.scheduler import BatchResult, Evaluating, rounds_of
from ablate_kit.sweeps.scheduling.scores import Scores
from ablate_kit.sweeps.sweep_folder import check_unchanged, ledger_of
from ablate_kit.sweeps.variants.tied_names import notes_on_tied
from detector.data.dataset import is_labelled


@dataclass(frozen=True)
class SweepRun:
    """A sweep that has ended; every number is in its ledger."""

    ledger: Ledger
    searches: Sequence[Search] = ()
    removed: Sequence[Ablation] = ()  # by searches and rankings, step by step, with controls
    notes: Sequence[str] = ()


def run_sweep(
    sweep: OpenSweep,
    ledger: Ledger,
    options: RunOptions = DEFAULTS,
    progress: Progress = UNWATCHED,
    chosen: Evaluating | None = None,
) -> SweepRun:
    """Finishes every variant that the ledger lacks.

    ``chosen`` rounds run in place of the recipe's; the run is then about what ``ablations``
    holds when they have ended.

    Raises:
        UserError: a file changed on disk meanwhile, or a worker found another one.
    """
    evaluation, batches = sweep.recipe.evaluation, sweep.batches
    _screen(sweep, ledger, progress)
    labelled = is_labelled(sweep.dataset)
    truth, labelled = begun(ledger, evaluation.truth(sweep.dataset), labelled)
    unchanged = partial(check_unchanged, sweep, ledger, options.workers)
    planned = RecipeRounds(sweep.recipe, sweep.source)
    if looks := sweep.looks:
        stretches = Race(
            sweep.variants,
            truth,
            batches,
            ledger,
            looks,
            evaluation.statistics,
            fixed_threshold=evaluation.score_threshold,
            check=unchanged,
            watch=progress.look,
        ).stretches()
    else:
        rounds = chosen or planned.rounds(sweep.variants, sweep.ablations, first=not labelled)
        scores = Scores(
            ledger,
            truth,
            batches,
            fixed_threshold=evaluation.score_threshold,
            check=unchanged,
            labelled=labelled,
            watch=progress.score,
        )
        stretches = rounds_of(rounds, partial(ledger.lacking, len(batches)), scores.of)

    def take(result: BatchResult) -> None:
        if not sweep.placement.here:  # which tells its variants one by one
            images = len(batches.span(result.batch))
            progress.advance(f"batch {result.batch + 1}", images * len(result.found))

    with _pool(sweep, ledger, options, progress) as pool:
        notes = run_stretches(stretches, batches, ledger, pool, progress, take)
    _close(sweep, ledger, planned.removed)
    return SweepRun(ledger, planned.searches, planned.removed, [*ledger.notes(), *notes])


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


def _screen(sweep: OpenSweep, ledger: Ledger, progress: Progress) -> None:
    """Leaves the ablations that the recipe's screening chooses, if it has any to do."""
    section = sweep.recipe.screen
    if section is None or screened(ledger.folder) is not None:
        return
    progress.begin(min(section.images, len(sweep.dataset)))
    threshold = sweep.recipe.evaluation.score_threshold
    found = screen(
        sweep.adapter, sweep.dataset, sweep.ablations, section, threshold, progress.advance
    )
    found.keep(ledger.folder)
    sweep.ablations = found.chosen(sweep.ablations)


@contextmanager
def _pool(
    sweep: OpenSweep, ledger: Ledger, options: RunOptions, progress: Progress
) -> Iterator[Pool]:
    recipe, placement = sweep.recipe, sweep.placement
    if placement.here:
        keep = prepared_bytes(recipe)
        with Worker(sweep.adapter, sweep.dataset, recipe.evaluation, options, keep) as worker:
            yield Here(worker, progress.advance)
        return
    device, trusted = placement.devices[0], placement.trust_remote_code
    spec = WorkerSpec(recipe, ledger.inputs, device, trusted, options)
    elsewhere: AbstractContextManager[Pool] = (
        cluster(spec, placement.ray) if placement.ray else processes(spec, placement.devices)
    )
    with elsewhere as pool:
        yield pool


def _close(sweep: OpenSweep, ledger: Ledger, removed: Sequence[Ablation]) -> None:
    """Says in the ledger what the run, which has ended, is about."""
    ledger.note(notes_on_tied(sweep.adapter, [*sweep.ablations, *removed]))
    recipe = sweep.recipe
    ledger.close(
        [*sweep.ablations, *sweep.donation.variants, *removed],
        recipe.evaluation.statistics,
        recipe.data.model_dump(mode="json"),
        recipe.model.model_dump(mode="json"),
        sweep.looks,
        recipe.race.seed if recipe.race else None,
    )

"""Variants of one live model over one data set: images outside, variants inside."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import Result
from ablate_kit.models.adapter import Adapter
from ablate_kit.sweeps.backends.worker import DEFAULTS, Here, RunOptions, Worker
from ablate_kit.sweeps.execution.executor import Advance
from ablate_kit.sweeps.recipes.evaluation_settings import USUAL, EvaluationSettings
from ablate_kit.sweeps.scheduling import engine
from ablate_kit.sweeps.scheduling.race import Watch
from ablate_kit.sweeps.scheduling.scheduler import (
    Batches,
    BatchResult,
    Evaluating,
    Lacking,
    Stretches,
    rounds_of,
)
from ablate_kit.sweeps.scheduling.scores import Scores
from ablate_kit.sweeps.scheduling.store import MemoryStore, Store
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from detector.data.dataset import Dataset, is_labelled

Begin = Callable[[int], None]


@dataclass(frozen=True)
class Progress:
    """Who watches a run.

    Attributes:
        begin: told how many passes, each of one variant over one image, are ahead.
        advance: told a variant's name and how many of its images were just done.
        look: told what a look of a race has come to.
        score: told, once passes are done, how many of how many variants have their numbers.
    """

    # Not in its repr, which help() shows of every function that takes one.
    begin: Begin = field(default=lambda _: None, repr=False)
    advance: Advance = field(default=lambda _, __: None, repr=False)
    look: Watch = field(default=lambda _: None, repr=False)
    score: Callable[[int, int], None] = field(default=lambda _, __: None, repr=False)


UNWATCHED = Progress()


@dataclass(frozen=True)
class Sweep:
    """Results of the unmodified model, then of each variant."""

    results: list[Result]
    truth: GroundTruth
    notes: list[str] = field(default_factory=list)  # what did not go as planned


def sweep(
    adapter: Adapter,
    dataset: Dataset,
    variants: Sequence[Variant],
    evaluation: EvaluationSettings = USUAL,
    *,
    baseline: Variant = UNMODIFIED,
    store: Store | None = None,
    truth: GroundTruth | None = None,
    threshold: float | Calibration | None = None,
    options: RunOptions = DEFAULTS,
    progress: Progress = UNWATCHED,
) -> Sweep:
    """The unmodified model and its variants, evaluated in this process.

    Args:
        baseline: the unmodified model, under the name that it is to have.
        store: where detections are kept; by default in memory.
        truth: what detections are compared with; by default the annotations of the images, and
            where they have no labels what the unmodified model finds in them.
        threshold: the calibrated score thresholds; by default that of the unmodified model.
    """
    batches = Batches(len(dataset), evaluation.batch_size)
    store = store or MemoryStore()
    labelled = truth is not None or is_labelled(dataset)
    truth, labelled = begun(store, truth or evaluation.truth(dataset), labelled)
    scores = Scores(
        store,
        truth,
        batches,
        fixed_threshold=evaluation.score_threshold,
        threshold=threshold,
        labelled=labelled,
        watch=progress.score,
    )
    wanted = [baseline, *variants]
    rounds = _rounds(wanted, first=not labelled)
    with Worker(adapter, dataset, evaluation, options) as worker:
        pool = Here(worker, progress.advance)
        stretches = rounds_of(rounds, partial(store.lacking, len(batches)), scores.of)
        run_stretches(stretches, batches, store, pool, progress)
    return Sweep(store.results(wanted), scores.truth, store.notes())


def _rounds(variants: Sequence[Variant], *, first: bool) -> Evaluating:
    """``first``: the first variant goes alone, so that whether it finds anything to hold the others
    against shows before they are run."""
    if first:
        yield variants[:1]
    yield variants


def begun(store: Store, truth: GroundTruth, labelled: bool) -> tuple[GroundTruth, bool]:
    """What detections are compared with, as the store keeps it, and whether that is known yet."""
    if labelled:
        return store.begin(truth), True
    kept = store.begun
    return (truth, False) if kept is None else (kept, True)


def run_stretches(
    stretches: Iterator[Lacking],
    batches: Batches,
    store: Store,
    pool: engine.Pool,
    progress: Progress,
    take: Callable[[BatchResult], None] = lambda _: None,
) -> list[str]:
    """All stretches, on a pool; returns what did not go as planned.

    What the store has already is not run again. ``take`` is given every result, when it is stored.
    """

    def stored(result: BatchResult) -> None:
        store.add(result)
        take(result)

    scheduler = Stretches(
        stretches,
        workers=len(pool.workers()),
        begin=lambda works: progress.begin(batches.passes(works)),
    )
    return engine.run(scheduler, pool, stored)

"""A recipe's sweep from its first to its last line of the ledger."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import BASELINE, Result, results_of
from ablate_kit.models.adapter import Adapter, ground_truth
from ablate_kit.sweeps.distribute import Pool, distribute, shards_of
from ablate_kit.sweeps.distributed import cluster
from ablate_kit.sweeps.ledger import Entry, Ledger
from ablate_kit.sweeps.passes import Advance
from ablate_kit.sweeps.processes import processes
from ablate_kit.sweeps.recipe import Data, SweepRecipe
from ablate_kit.sweeps.worker import Done, Job, Settings, Shard, Worker
from detector.data.dataset import Dataset


@dataclass(frozen=True)
class Where:
    """On what a study runs: this process, a process per device, or the workers of a cluster."""

    devices: tuple[str, ...] = ("cpu",)
    ray: str = ""  # address of a cluster
    trust_remote_code: bool = False


def run_study(
    ledger: Ledger,
    adapter: Adapter,
    dataset: Dataset,
    ablations: Sequence[Ablation],
    recipe: SweepRecipe,
    settings: Settings,
    where: Where = Where(),
    *,
    advance: Advance = lambda _, __: None,
    unchanged: Callable[[], None] = lambda: None,
) -> list[str]:
    """Finishes every variant that the ledger lacks; returns what did not go as planned.

    Args:
        adapter: runs where the study runs in this process alone.
        unchanged: called before anything counts as finished; raises where the files that were read
            are no longer those that the ledger names.
    """
    truth = ledger.write_truth(ground_truth(dataset))
    wanted: list[Ablation | None] = [None, *ablations]
    finished = ledger.entries()
    pending = {key: one for one in wanted if (key := ledger.key(one)) not in finished}
    evaluation = recipe.evaluation
    kept = evaluation.resamples, evaluation.seed, recipe.data.model_dump()
    if not pending:
        ledger.close(ablations, *kept)
        return []
    partial = ledger.partial()
    batches = -(-len(dataset) // evaluation.batch_size)
    missing = partial.missing(batches, tuple(pending))

    def take(done: Done) -> None:
        ledger.note(done.notes)
        partial.add(done.batch, dict(zip(done.keys, done.found, strict=True)))

    notes = []
    if missing and not where.ray and len(where.devices) == 1:
        worker = Worker(adapter, dataset, pending, evaluation.batch_size, settings)
        for keys, those in missing.items():
            for done in worker.run(Shard(tuple(those), keys), advance):
                take(done)
    elif missing:

        def take_all(found: list[Done]) -> None:
            for done in found:
                take(done)
                images = min(evaluation.batch_size, len(dataset))
                advance(f"batch {done.batch + 1}", images * len(done.keys))

        device = where.devices[0]
        job = Job(recipe, ledger.inputs, pending, device, where.trust_remote_code, settings)
        elsewhere: AbstractContextManager[Pool] = (
            cluster(job, where.ray) if where.ray else processes(job, where.devices)
        )
        with elsewhere as pool:
            shards = shards_of(missing, len(pool.workers()))
            notes = distribute(pool, shards, take_all)
    try:
        unchanged()
    except UserError:
        ledger.clear_partial()
        raise
    _score(ledger, truth, pending, partial.variants(batches, tuple(pending)), recipe)
    ledger.close(ablations, *kept)
    ledger.clear_partial()
    return [*ledger.notes(), *notes]


def done_so_far(
    ledger: Ledger, ablations: Sequence[Ablation], images: int, batch_size: int
) -> tuple[bool, str]:
    """Whether anything is done, and how much, in words."""
    wanted = {ledger.key(one): one for one in [None, *ablations]}
    finished = ledger.entries().keys() & wanted.keys()
    named = len({ledger.key(one) for one in ablations} & finished)
    batches = -(-images // batch_size)
    lacking = ledger.partial().missing(batches, tuple(wanted.keys() - finished))
    done = batches - len({batch for those in lacking.values() for batch in those})
    told = f"{named} of {len(ablations)} variants"
    if len(finished) < len(wanted):
        told += f" and {done} of {batches} batches of images for the others"
    return bool(finished or done), told


def results(ledger: Ledger) -> list[Result]:
    """The unmodified model's numbers, then each variant's, of a run that is finished."""
    entries = ledger.entries()
    named = [(BASELINE, BASELINE, ledger.key(None))]
    named += [(one.name, one.kind, one.key) for one in ledger.study().variants]
    for name, _, key in named:
        if key not in entries:
            raise UserError(f'{ledger.folder} has no numbers of "{name}"; run ablate sweep again')
    # Ablations of different names may be the same one: a variant's detections are read once.
    found = {key: ledger.detections(key) for key in dict.fromkeys(key for *_, key in named)}
    truth = ledger.truth()
    for detections in found.values():
        detections.check_against(truth)
    return [Result(name, kind, entries[key].evaluation, found[key]) for name, kind, key in named]


def images_of(ledger: Ledger) -> Dataset:
    """The images of a run that is finished.

    Raises:
        UserError: they are no longer where they were, or others.
    """
    told = ledger.study().data
    if told is None:
        raise UserError("the run does not say where its images are")
    try:
        data = Data.model_validate(told)
    except ValidationError:
        raise UserError("the run does not say where its images are in words of now") from None
    dataset = data.dataset()
    if ground_truth(dataset).to_coco() != ledger.truth().to_coco():
        raise UserError("the annotations have changed since the sweep")
    return dataset


def _score(
    ledger: Ledger, truth: GroundTruth, pending: dict[str, Any], found: Any, recipe: SweepRecipe
) -> None:
    finished = ledger.entries()
    baseline = finished.get(ledger.key(None))
    threshold = baseline.evaluation.thresholds.calibrated if baseline else None
    for (key, ablation), detections in zip(pending.items(), found, strict=True):
        if key in finished:
            continue
        name = ablation.name if ablation else BASELINE
        (result,) = results_of(
            truth, [(name, "", detections)], threshold, recipe.evaluation.score_threshold
        )
        threshold = result.evaluation.thresholds.calibrated
        ledger.write_detections(key, detections)
        ledger.finish(Entry(key, ablation, result.evaluation))

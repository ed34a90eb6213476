"""A recipe's sweep from its first to its last line of the ledger."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.checkpoints.digest import sha256
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.evaluate import VERSION
from ablate_kit.models.adapter import Adapter, Collector, ground_truth, prepared_batches
from ablate_kit.sweeps.ledger import Entry, Ledger
from ablate_kit.sweeps.passes import Advance, Passes
from ablate_kit.sweeps.recipe import Data, SweepRecipe
from ablate_kit.sweeps.run import BASELINE, Result, results_of
from ablate_kit.sweeps.variant import Ablated
from detector.data.dataset import Dataset, subset


def inputs_of(
    recipe: SweepRecipe, checkpoint: Checkpoint, dataset: Dataset, device: str
) -> dict[str, Any]:
    """All that the results of a variant depend on, but the ablation."""
    return {
        "checkpoint": _checkpoint_digest(checkpoint),
        "weights": checkpoint.place,
        "framework": recipe.model.framework or "",
        "data": _data_digest(dataset),
        "batch_size": recipe.evaluation.batch_size,
        "score_threshold": recipe.evaluation.score_threshold,
        "device": torch.device(device).type,
        "metrics_version": VERSION,
        "torch_version": str(torch.__version__),
    }


def run_study(
    ledger: Ledger,
    adapter: Adapter,
    dataset: Dataset,
    ablations: Sequence[Ablation],
    recipe: SweepRecipe,
    *,
    replay: bool = True,
    memory: float,
    workers: int = 2,
    advance: Advance = lambda _, __: None,
    done: Callable[[int, int], None] = lambda _, __: None,
) -> list[str]:
    """Finishes every variant that the ledger lacks; returns what did not go as planned.

    ``done`` is told after each batch how many batches are done, of how many.
    """
    truth = ledger.write_truth(ground_truth(dataset))
    wanted: list[Ablation | None] = [None, *ablations]
    finished = ledger.entries()
    pending = {key: one for one in wanted if (key := ledger.key(one)) not in finished}
    settings = recipe.evaluation.resamples, recipe.evaluation.seed, recipe.data.model_dump()
    if not pending:
        ledger.close(ablations, *settings)
        return []
    partial = ledger.partial(list(pending))
    size = recipe.evaluation.batch_size
    batches = -(-len(dataset) // size)
    missing = [i for i in range(batches) if not partial.done(i)]
    cut = [one for one in pending.values() if one]
    variants = [Ablated(one, adapter.live_names()) for one in cut]
    first = 0 if None in pending.values() else 1  # the unmodified model may be done already
    notes: list[str] = []
    if missing:
        indices = [
            i
            for batch in missing
            for i in range(batch * size, min((batch + 1) * size, len(dataset)))
        ]
        with Passes(adapter, variants, replay=replay, memory=memory) as passes:
            rest = prepared_batches(adapter, subset(dataset, indices), size, workers)
            for batch, (span, prepared) in zip(missing, rest, strict=True):
                found = passes.run(prepared, advance)[first:]
                where = [indices[i] for i in span]
                stores = [Collector(adapter, dataset).add(where, one) for one in found]
                ledger.note(passes.notes)
                partial.add(batch, stores)
                done(batch + 1, batches)
            notes = passes.notes
    _score(ledger, truth, pending, partial.variants(batches, len(pending)), recipe)
    ledger.close(ablations, *settings)
    ledger.clear_partial()
    return notes


def results(ledger: Ledger) -> list[Result]:
    """The unmodified model's numbers, then each variant's, of a run that is finished."""
    entries = ledger.entries()
    named = [(BASELINE, BASELINE, ledger.key(None))]
    named += [(one["name"], one["kind"], one["key"]) for one in ledger.study()["variants"]]
    return [
        Result(name, kind, entries[key].evaluation, ledger.detections(key))
        for name, kind, key in named
    ]


def images_of(ledger: Ledger) -> Dataset:
    """The images of a run that is finished.

    Raises:
        UserError: they are no longer where they were, or others.
    """
    dataset = Data.model_validate(ledger.study()["data"]).dataset()
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


def _checkpoint_digest(checkpoint: Checkpoint) -> str:
    if not checkpoint.folder:
        return sha256(checkpoint.path)
    files = [one for one in sorted(checkpoint.folder.iterdir()) if one.is_file()]
    text = "\n".join(f"{one.name} {sha256(one)}" for one in files)
    return hashlib.sha256(text.encode()).hexdigest()


def _data_digest(dataset: Dataset) -> str:
    """Of every pixel and every annotation."""
    total = hashlib.sha256("\n".join(dataset.classes).encode())

    def one(index: int) -> bytes:
        notes = dataset.annotations(index)
        part = hashlib.sha256(dataset.image(index).tobytes())
        for array in (notes.boxes, notes.labels, notes.ignore, notes.areas):
            part.update(array.tobytes())
        return part.digest() + str((notes.image_id, notes.width, notes.height)).encode()

    with ThreadPoolExecutor(2) as pool:
        for digest in pool.map(one, range(len(dataset))):
            total.update(digest)
    return total.hexdigest()

"""Checkpoints of one model as variants of the first of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import BASELINE, Result
from ablate_kit.models.adapter import Adapter
from ablate_kit.sweeps.backends.worker import DEFAULTS, RunOptions
from ablate_kit.sweeps.execution.executor import Advance
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run import Progress, Sweep, sweep
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.variants.taken_tensors import different_tensors
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.dataset import Dataset


@dataclass(frozen=True)
class Family:
    """A checkpoint, and others that differ from it in the values of tensors."""

    first: Variant
    adapter: Adapter
    others: list[Variant] = field(default_factory=list)


def group_by_architecture(opened: Iterable[tuple[Variant, Adapter]]) -> Iterator[Family]:
    """Checkpoints, each with a variant that has no tensors yet, together where they are of one
    model.

    Of every other member only the tensors that differ from the first are kept. The first family
    is that of the first checkpoint.
    """
    found: list[Family] = []
    for variant, adapter in opened:
        family = next((one for one in found if one.adapter.same_model(adapter)), None)
        if family is None:
            found.append(Family(variant, adapter))
        else:
            tensors = different_tensors(family.adapter, adapter)
            family.others.append(replace(variant, tensors=tensors))
    yield from found


def sweep_families(
    families: Sequence[Family],
    dataset: Dataset,
    evaluation: EvaluationSettings,
    *,
    folder: Path | None = None,
    truth: GroundTruth | None = None,
    options: RunOptions = DEFAULTS,
    progress: Progress,
) -> Sweep:
    """All checkpoints, compared with what the first is compared with, at its score threshold.

    ``folder`` keeps the detections, which results read; by default they are in memory. ``truth`` is
    as of ``sweep``.
    """
    results: list[Result] = []
    notes: list[str] = []
    threshold: Calibration | None = None
    for number, family in enumerate(families):
        named = partial(_advance, progress.advance, family.first.name)
        done = sweep(
            family.adapter,
            dataset,
            family.others,
            evaluation,
            baseline=family.first,
            store=Ledger(folder / str(number), {}) if folder else None,
            truth=truth,
            threshold=threshold,
            options=options,
            progress=replace(progress, advance=named),
        )
        truth = done.truth
        threshold = done.results[0].evaluation.thresholds.calibration
        results += done.results
        notes += done.notes
    assert truth is not None  # noqa: S101 - there is a first family
    return Sweep(results, truth, notes)


def _advance(advance: Advance, first: str, name: str, count: int) -> None:
    """A worker calls the first of a family what it is there: the unmodified model."""
    advance(first if name == BASELINE else name, count)

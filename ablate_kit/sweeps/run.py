"""Many ablations of one live model over one data set: images outside, ablations inside."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import BASELINE, Result, results_of
from ablate_kit.models.adapter import (
    Adapter,
    Collector,
    batch_sizes,
    ground_truth,
    prepared_batches,
)
from ablate_kit.sweeps.passes import MEMORY, Advance, Passes
from ablate_kit.sweeps.variant import Variant
from detector.data.dataset import Dataset


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
    *,
    baseline: tuple[str, str] = (BASELINE, BASELINE),
    threshold: float | None = None,
    fixed_threshold: float = 0.5,
    batch_size: int = 8,
    workers: int = 2,
    replay: bool = True,
    memory: float = MEMORY,
    advance: Advance = lambda _, __: None,
) -> Sweep:
    """The unmodified model and its variants, evaluated.

    Args:
        baseline: name and kind of the unmodified model.
        threshold: the calibrated score threshold; by default that of the unmodified model.
        fixed_threshold: of the numbers at a fixed score.
        workers: threads that prepare images.
        replay: compute only what each variant changes. The results are the same without.
        memory: bytes that the recorded outputs may take.
        advance: told a variant's name and how many of its images were just done.
    """
    truth = ground_truth(dataset)
    stores = [Collector(adapter, dataset) for _ in range(len(variants) + 1)]
    with Passes(adapter, variants, replay=replay, memory=memory) as passes:
        done = 0
        sizes = batch_sizes(len(dataset), batch_size)
        for prepared in prepared_batches(adapter, dataset, sizes, workers):
            span = range(done, done := done + len(prepared))
            for store, found in zip(stores, passes.run(prepared, advance), strict=True):
                store.add(span, found)
    named = [baseline, *((one.name, one.kind) for one in variants)]
    results = results_of(
        truth,
        [(*names, store.detections()) for names, store in zip(named, stores, strict=True)],
        threshold,
        fixed_threshold,
    )
    return Sweep(results, truth, passes.notes)

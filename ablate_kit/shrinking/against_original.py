"""The smaller model's numbers beside the original's: AP with the interval of its change."""

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.models.adapter import Adapter
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run import Progress, sweep
from ablate_kit.sweeps.variant import Variant
from detector.data.dataset import Dataset

NAMES = ("original", "smaller")


def against_original(
    original: Adapter,
    smaller: Adapter,
    dataset: Dataset,
    evaluation: EvaluationSettings,
    truth: GroundTruth | None,
    progress: Progress,
) -> tuple[list[Result], Comparison]:
    """Both on all images, compared with each other. Images without labels take the original's
    boxes. ``truth``: what detections are compared with, as of ``sweep``."""
    baseline = Variant(NAMES[0], "checkpoint")
    first = sweep(
        original, dataset, [], evaluation, baseline=baseline, truth=truth, progress=progress
    )
    (before,) = first.results
    second = sweep(
        smaller,
        dataset,
        [],
        evaluation,
        baseline=Variant(NAMES[1], "checkpoint"),
        truth=first.truth,
        threshold=before.evaluation.thresholds.calibration,
        progress=progress,
    )
    results = [before, *second.results]
    return results, compare(first.truth, results, evaluation.statistics)

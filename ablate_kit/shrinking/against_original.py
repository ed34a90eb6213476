"""The smaller model's numbers beside the original's: AP with the interval of its change."""

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.models.adapter import Adapter
from ablate_kit.sweeps.checkpoint_variants import Family, sweep_families
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.variant import Variant
from detector.data.dataset import Dataset


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
    both = {"original": original, "smaller": smaller}
    families = [Family(Variant(name, "checkpoint"), one) for name, one in both.items()]
    done = sweep_families(families, dataset, evaluation, truth=truth, progress=progress)
    return done.results, compare(done.truth, done.results, evaluation.statistics)

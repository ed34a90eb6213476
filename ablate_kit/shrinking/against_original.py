"""The smaller model's numbers beside the original's: AP with the interval of its change."""

from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.models.adapter import Adapter
from ablate_kit.shrinking.judged_on import JudgedOn
from ablate_kit.sweeps.checkpoint_variants import Family, sweep_families
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.variants.variant import Variant


def against_original(
    original: Adapter, smaller: Adapter, on: JudgedOn, progress: Progress
) -> tuple[list[Result], Comparison]:
    """Both on all images, compared with each other. Images without labels take the original's
    boxes."""
    both = {"original": original, "smaller": smaller}
    families = [Family(Variant(name, "checkpoint"), one) for name, one in both.items()]
    seen = on.seen_by(original)
    done = sweep_families(families, seen, on.evaluation, truth=on.truth, progress=progress)
    return done.results, compare(done.truth, done.results, on.evaluation.statistics)

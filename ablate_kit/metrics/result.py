"""A variant beside its numbers: what evaluations end in and reports begin with."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate_kit.metrics.bootstrap import Bootstrap, Change, changes
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, evaluate

BASELINE = "unmodified"  # name and kind of the variant that others are held against


@dataclass(frozen=True)
class Result:
    """A variant and its numbers. The first of a list is the one that others are held against."""

    name: str
    kind: str
    evaluation: Evaluation
    detections: Detections


def results_of(
    truth: GroundTruth,
    found: Sequence[tuple[str, str, Detections]],
    threshold: float | None,
    fixed_threshold: float,
) -> list[Result]:
    """Every metric of each set of detections; the threshold of the first counts for all."""
    results: list[Result] = []
    for name, kind, detections in found:
        numbers = evaluate(
            truth, detections, score_threshold=threshold, fixed_threshold=fixed_threshold
        )
        threshold = numbers.thresholds.calibrated
        results.append(Result(name, kind, numbers, detections))
    return results


def changes_of(
    truth: GroundTruth, results: Sequence[Result], resamples: int, seed: int = 0
) -> list[dict[str, Change]]:
    """The change of every result against the first, with intervals; none without resamples."""
    if not resamples or len(results) < 2:
        return []
    bootstrap = Bootstrap(truth, resamples, seed)
    threshold = results[0].evaluation.thresholds.calibrated
    first, *others = (bootstrap.samples(one.detections, threshold) for one in results)
    return changes(first, others)

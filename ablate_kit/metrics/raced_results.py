"""What the variants of a race come to, each on the images that it saw before it stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.first_images import found_in, truth_of_first
from ablate_kit.metrics.parallel import in_threads
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Samples
from ablate_kit.metrics.uncertainty.comparison import Comparison
from ablate_kit.metrics.uncertainty.raced import Levels, StepDown, class_changes, raced_changes
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.statistics import Statistics

_NOTHING = Change(*[None] * 8)


def compare_raced(
    truth: GroundTruth, results: Sequence[Result], looks: Looks, statistics: Statistics
) -> Comparison:
    """As ``compare``, without samples: those of variants that stopped apart are not joint."""
    seen = truth_of_first(truth, results[0].images)
    classes = sorted(set(seen.labels[~seen.ignore].tolist()))
    baseline = results[0].detections
    found: dict[str, tuple[dict[str, Change], list[Change]]] = {}
    tested = {one.key for one in results[1:] if not one.is_control}  # a control may be the same cut
    step_down = StepDown(looks, tested)
    for images in sorted({one.images for one in results[1:]}):
        alike = {one.key: one for one in results[1:] if one.images == images}
        first = next(iter(alike.values()))
        # That of the unmodified model on these images.
        calibration = first.evaluation.thresholds.calibration
        own = truth_of_first(truth, images)
        bootstrap = Bootstrap(own, statistics.resamples, statistics.seed, sets=1 + len(alike))
        before = bootstrap.samples(found_in(baseline, 0, images), calibration)
        levels, last = step_down.levels(images), step_down.is_last(images)

        def of(
            one: Result,
            bootstrap: Bootstrap = bootstrap, before: Samples = before, levels: Levels = levels,
            last: bool = last,
        ) -> tuple[dict[str, Change], list[Change]]:  # fmt: skip
            after = bootstrap.samples(one.detections, one.evaluation.thresholds.calibration)
            overall = raced_changes(
                before, after, levels, statistics.margin, last=last, tested=one.key in tested
            )
            by_class = dict(
                zip(bootstrap.classes.tolist(), class_changes(before, after, levels), strict=True)
            )
            return overall, [by_class.get(label, _NOTHING) for label in classes]

        found |= zip(alike, in_threads(of, alike.values()), strict=True)
        verdicts = {key: found[key][0]["AP"].verdict for key in alike}
        step_down.settle({key: one.outcome for key, one in verdicts.items() if one})
    return Comparison(
        changes=[
            _untested(found[one.key][0]) if one.is_control else found[one.key][0]
            for one in results[1:]
        ],
        classes=[truth.classes[label] for label in classes],
        by_class=[found[one.key][1] for one in results[1:]],
        baseline=None,
        samples=[],
        statistics=statistics,
    )


def _untested(changes: Mapping[str, Change]) -> dict[str, Change]:
    return {
        metric: replace(change, p_adjusted=None, verdict=None) for metric, change in changes.items()
    }


def until(result: Result, images: int) -> Result:
    """The same with its detections in the first so many images alone."""

    def load() -> Detections:
        return found_in(result.detections, 0, images)

    return replace(result, load=load)

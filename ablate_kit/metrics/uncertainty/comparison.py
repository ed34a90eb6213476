"""Results compared with the first: every change with its interval, overall and per class."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.parallel import in_threads
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Samples
from ablate_kit.metrics.uncertainty.significance import Change, changes, class_changes
from ablate_kit.metrics.uncertainty.statistics import DEFAULTS, Statistics


@dataclass(frozen=True, eq=False)
class Comparison:
    """Changes against the first of several results; nothing without resamples."""

    changes: Sequence[dict[str, Change]]  # of each other result, by metric
    classes: Sequence[str]  # names of those that have objects
    # Of each other result the change of each class's AP, in the order of ``classes``; p-values are
    # adjusted over the classes.
    by_class: Sequence[Sequence[Change]]
    # baseline, samples: of the first and of each other result, without those of classes.
    baseline: Samples | None
    samples: Sequence[Samples]
    statistics: Statistics  # that all is made with


NOTHING = Comparison([], [], [], None, [], replace(DEFAULTS, resamples=0))


def compare(
    truth: GroundTruth,
    results: Sequence[Result],
    statistics: Statistics = DEFAULTS,
    *,
    classes: bool = True,
) -> Comparison:
    """Each result against the first. One that is there twice under two names is looked at once.

    ``classes``: False: without changes of classes, which take most of the time.
    """
    if not statistics.resamples or len(results) < 2:
        return replace(NOTHING, statistics=statistics)
    # Results of one variant under several names share their numbers; keys are those of one run.
    distinct = {id(one.evaluation): one for one in reversed(results[1:])}
    bootstrap = Bootstrap(truth, statistics.resamples, statistics.seed, sets=1 + len(distinct))
    calibration = results[0].evaluation.thresholds.calibration
    baseline = Future[Samples]()  # others wait for it only where they are compared with it

    def samples(result: Result) -> Samples:
        return bootstrap.samples(result.detections, calibration, per_class=classes)

    def told(result: Result | None) -> tuple[list[Change], Samples]:
        if result is None:
            try:
                baseline.set_result(samples(results[0]))
            except BaseException as error:
                baseline.set_exception(error)
            return [], baseline.result()
        after = samples(result)
        by_its_class = class_changes(baseline.result(), after, statistics.adjust) if classes else []
        # Those of the classes are the largest part, and not needed again.
        return by_its_class, replace(after, ap_per_class=())

    (_, before), *others = in_threads(told, [None, *distinct.values()])
    known = dict(zip(distinct, others, strict=True))
    found = [known[id(one.evaluation)] for one in results[1:]]
    kept = [after for _, after in found]
    tested = [not one.is_control for one in results[1:]]
    return Comparison(
        changes=changes(before, kept, tested, statistics.adjust, statistics.margin),
        classes=[truth.classes[label] for label in bootstrap.classes] if classes else [],
        by_class=[by_its_class for by_its_class, _ in found],
        baseline=replace(before, ap_per_class=()),
        samples=kept,
        statistics=statistics,
    )

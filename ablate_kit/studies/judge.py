"""Verdicts that steer a study; those that a report gives are adjusted for all that was asked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Samples
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.verdict import Outcome, verdicts
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant

_RESAMPLES = 200


@dataclass
class Judge:
    """Verdicts on variants that have run, each by itself."""

    truth: Callable[[], GroundTruth]
    results: Callable[[Sequence[Variant]], Sequence[Result]]
    margin: float
    # The change of AP of each, and what it comes to.
    found: dict[str, tuple[float, Outcome]] = field(default_factory=dict)
    _bootstrap: Bootstrap | None = None
    _baseline: Samples | None = None

    def judge(self, variants: Iterable[Variant]) -> None:
        first = self.results([UNMODIFIED])[0]
        calibration = first.evaluation.thresholds.calibration
        if self._bootstrap is None:
            self._bootstrap = Bootstrap(self.truth(), _RESAMPLES)
        if self._baseline is None:
            self._baseline = self._bootstrap.samples(first.detections, calibration, per_class=False)
        for one in variants:
            if one.name in self.found or not one.digest:
                continue
            (result,) = self.results([one])
            samples = self._bootstrap.samples(result.detections, calibration, per_class=False)
            difference = samples.overall["AP"] - self._baseline.overall["AP"]
            test = paired_test(difference)
            star = None if test is None else test.p
            (alone,) = verdicts([test], [star], difference.all_images, self.margin)
            self.found[one.name] = float(difference.value), alone.outcome

"""A variant beside its numbers: what evaluations end in and reports begin with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ablate_kit.metrics.calibration import Calibration
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, evaluate

BASELINE = "unmodified"  # name and kind of the variant that others are compared with


@dataclass(frozen=True)
class Result:
    """A variant and its numbers. The first of a list is the one that others are compared with."""

    name: str
    kind: str
    evaluation: Evaluation
    key: str  # the same for results that hold the same detections under other names
    load: Callable[[], Detections]  # gives the detections, which may lie in a file
    # Coordinates of what was changed, such as module, head, percent, draw.
    factors: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def is_control(self) -> bool:
        """Whether it is a random cut that another is read against, and no ablation itself."""
        return is_control(self.factors)

    @property
    def images(self) -> int:
        """How many it has seen."""
        return int(self.evaluation.counts["images"])

    @staticmethod
    def of(
        name: str, kind: str, truth: GroundTruth, found: Detections, *,
        threshold: float | Calibration | None, fixed_threshold: float,
    ) -> "Result":  # fmt: skip
        """Every metric of detections that are at hand; without a threshold it is chosen here."""
        numbers = evaluate(truth, found, score_threshold=threshold, fixed_threshold=fixed_threshold)
        return Result(name, kind, numbers, name, lambda: found)

    @property
    def detections(self) -> Detections:
        """Read anew at each call: keep them only as long as they are needed."""
        return self.load()


def is_control(factors: Mapping[str, str | int | float]) -> bool:
    return "control_of" in factors

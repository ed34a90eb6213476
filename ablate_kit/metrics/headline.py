"""The metrics that stand for an evaluation in tables, figures, intervals and searches."""

from dataclasses import dataclass
from typing import Literal, get_args

Key = Literal["AP", "AP50", "f1_calibrated", "giou_penalized"]
KEYS: tuple[Key, ...] = get_args(Key)


@dataclass(frozen=True)
class Metric:
    """One of ``Evaluation.overall``."""

    key: Key
    label: str  # in tables
    axis: str  # in figures
    name: str  # where there is room to say what it means
    direction: Literal[1, -1] = 1  # 1 where more is better, else -1
    least: float = 0.0  # no value is lower; none of these is above 1

    def between(self, low: float, high: float) -> tuple[float, float]:
        """The ends of an interval, as far as the metric goes."""
        return max(low, self.least), min(high, 1.0)


METRICS = (
    Metric("AP", "AP", "AP", "AP"),
    Metric("AP50", "AP50", "AP50", "AP50"),
    Metric("f1_calibrated", "F1", "F1", "F1"),
    Metric(
        "giou_penalized", "GIoU", "GIoU (missed: -1)", "GIoU, a missed object counts -1", least=-1
    ),
)
DRAWN = tuple(one for one in METRICS if one.key != "AP50")  # it moves with AP


def metric(key: Key) -> Metric:
    return METRICS[KEYS.index(key)]

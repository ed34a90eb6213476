"""Settings of a detector, as a table, a front and a picture."""

import numpy as np
import pytest

from ablate_kit.costs.cost import Cost
from ablate_kit.costs.latency import Latency
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports.cost_reports.knobs_figure import knobs_figure
from ablate_kit.reports.cost_reports.knobs_table import knobs_table, pareto, prices
from ablate_kit.reports.pareto import front
from ablate_kit.reports.saved_figure import drawn
from tests.ablate_kit.made_up import truth_of


def test_the_front_is_what_no_other_beats_on_both_counts() -> None:
    gains = [0.5, 0.4, 0.3, 0.45, None, 0.5]
    costs = [1.0, 0.5, 0.6, 0.4, 0.1, 1.1]
    # 0.4 at 0.5 is beaten by 0.45 at 0.4; the last one is as good as the first, and costs more.
    assert front(gains, costs) == [True, False, False, True, False, False]
    assert front([0.2, 0.2], [1.0, 1.0]) == [True, True]


def test_every_point_is_on_the_front_or_beaten_by_one_that_is() -> None:
    generator = np.random.Generator(np.random.Philox(4))
    for _ in range(50):
        gains, costs = generator.integers(0, 5, (2, 8)).astype(float).tolist()
        on = front(gains, costs)
        kept = [(g, c) for g, c, one in zip(gains, costs, on, strict=True) if one]
        for g, c, one in zip(gains, costs, on, strict=True):
            better = [(a, b) for a, b in kept if a >= g and b <= c and (a, b) != (g, c)]
            assert one == (not better)


@pytest.fixture
def settings() -> tuple[list[Result], Comparison, list[Cost]]:
    """A detector that finds all 30 objects, and one that finds each third at half the latency."""
    count = 30
    image = np.arange(count)
    boxes = np.tile([10.0, 10.0, 50.0, 60.0], (count, 1))
    labels = np.zeros(count, dtype=np.int64)
    truth = truth_of(image, boxes, labels, images=count, classes=("disc",))
    scores = np.linspace(0.9, 0.6, count)
    some = image % 3 == 0
    found = [
        Detections(image, boxes, scores, labels),
        Detections(image[some], boxes[some], scores[some], labels[some]),
    ]
    first = Result.of("all", "unmodified", truth, found[0], threshold=None, fixed_threshold=0.5)
    threshold = first.evaluation.thresholds.calibration
    other = Result.of("depth 1", "knob", truth, found[1], threshold=threshold, fixed_threshold=0.5)
    factors = {"knob": "depth", "setting": 1}
    other = Result(other.name, other.kind, other.evaluation, other.key, other.load, factors)
    results = [first, other]
    costs = [
        Cost(
            parameters, 2 * parameters, (64, 64),
            {("cpu", 1): Latency(tuple(pace * x for x in (0.01, 0.02, 0.03)))},
            {("cpu", 1): 100},
        )
        for parameters, pace in ((1000, 1.0), (600, 0.5))
    ]  # fmt: skip
    return results, compare(truth, results, Statistics(resamples=500)), costs


def test_the_table_says_what_a_setting_costs_and_saves(
    settings: tuple[list[Result], Comparison, list[Cost]],
) -> None:
    table = knobs_table(*settings)
    own, early = table.rows
    assert own[:2] == ("all", "1.0000")
    # Ten of thirty objects found at precision 1: of 101 recalls, 34 are reached.
    assert early[:3] == ("depth 1", f"{34 / 101:.4f}", f"{34 / 101 - 1:+.4f}")
    assert early[4] == "costs"
    assert early[5:7] == ("600", "0.000")
    assert early[7:9] == ("10.00 ms (14.50)", "0.500 (0.500 to 0.500)")
    assert (own[-1], early[-1]) == ("front", "front")
    assert table.title.startswith("1 of 1 settings costs more than 0.01 AP")
    assert "latency on cpu, batch 1" in table.title


def test_without_a_clock_flops_are_the_price(
    settings: tuple[list[Result], Comparison, list[Cost]],
) -> None:
    results, found, costs = settings
    bare = [Cost(one.parameters, one.flops, one.size) for one in costs]
    assert prices(bare) == [(1.0, 1.0, 1.0), (0.6, 0.6, 0.6)]
    table = knobs_table(results, found, bare)
    assert table.header[-2:] == ("GFLOPs", "Pareto")
    assert "latency" not in table.title
    assert pareto(results, [bare[1], bare[0]]) == [True, False]


def test_the_picture_is_drawn_with_and_without_intervals(
    settings: tuple[list[Result], Comparison, list[Cost]],
) -> None:
    results, found, costs = settings
    text = drawn(knobs_figure(results, found, costs))["svg"].decode()
    for words in (
        "Pareto front, whatever the intervals",
        "depth",
        "AP (95 % interval of the change)",
    ):
        assert f"<!-- {words} -->" in text
    from ablate_kit.metrics.uncertainty.comparison import NOTHING

    bare = [Cost(one.parameters, one.flops, one.size) for one in costs]
    assert len(drawn(knobs_figure(results, NOTHING, bare))["png"]) > 5000
    for one in results:  # on images without objects
        one.evaluation.overall["AP"] = None
    assert len(drawn(knobs_figure(results, NOTHING, bare))["png"]) > 5000

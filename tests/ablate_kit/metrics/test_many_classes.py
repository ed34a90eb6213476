"""Memory follows the classes that occur, not those that a file lists."""

from dataclasses import replace

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.confusion import confusion
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Sampled
from ablate_kit.metrics.uncertainty.comparison import compare
from ablate_kit.metrics.uncertainty.significance import changes, class_changes
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.reports.comparison_table import class_changes_table
from ablate_kit.reports.error_analysis import confusion_table
from ablate_kit.reports.sweep_reports.sweep_figures import figures
from tests.ablate_kit.made_up import truth_of


def inputs(classes: int, labels: list[int]) -> tuple[GroundTruth, Detections]:
    rng = np.random.default_rng(3)
    count = 40
    starts = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([starts, starts + rng.uniform(5, 30, (count, 2))], axis=1)
    order = np.argsort(np.arange(count) % 4, kind="stable")
    truth = truth_of(
        order % 4, boxes[order], np.resize(labels, count)[order],
        images=4, classes=[f"c{i}" for i in range(classes)],
    )  # fmt: skip
    shifted = boxes + rng.normal(0, 2, boxes.shape)
    found = Detections(
        image=truth.image.copy(), boxes=np.sort(shifted.reshape(-1, 2, 2), axis=1).reshape(-1, 4),
        scores=rng.uniform(size=count), labels=rng.permutation(truth.labels),
    )  # fmt: skip
    return truth, found


def test_classes_that_do_not_occur_change_nothing() -> None:
    few, many = inputs(3, [0, 2]), inputs(20_000, [0, 19_999])
    one, other = average_precision(*few), average_precision(*many)
    assert repr(one.overall) == repr(other.overall)  # NaN included
    assert one.ap[[0, 2]].tolist() == other.ap[[0, 19_999]].tolist()
    assert np.isfinite(one.ap[[0, 2]]).all()
    assert np.isnan(other.ap[1:-1]).all()
    assert one.ap_at[:, 2].tolist() == other.ap_at[:, -1].tolist()

    small, large = confusion(*few, 0.2), confusion(*many, 0.2)
    assert large.classes.tolist() == [0, 19_999]
    assert small.classes.tolist() == [0, 1, 2]
    kept = np.ix_([0, 2, 3], [0, 2, 3])
    assert small.counts[kept].tolist() == large.counts.tolist()
    assert small.counts.sum() == large.counts.sum() > 0


def test_classes_are_evaluated_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = inputs(7, [5, 0, 2, 6, 3])
    whole = average_precision(truth, found)
    monkeypatch.setattr("ablate_kit.metrics.average_precision._AT_ONCE", 2)
    parts = average_precision(truth, found)
    assert repr(whole.overall) == repr(parts.overall)
    assert whole.overall["AP"] > 0.01
    for name in ("ap", "ap50", "ap_at", "ious"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_confusions_of_very_many_classes_are_a_row_to_a_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, found = inputs(3, [0, 2])
    matrix = confusion(truth, found, 0.2)
    monkeypatch.setattr("ablate_kit.metrics.confusion._LISTED", 1)
    few = confusion(truth, found, 0.2)
    table = confusion_table(truth.classes, few)
    assert table.header == ("true", "detected", "count")
    counts = {row[:2]: int(row[2]) for row in table.rows}
    true, seen = (*truth.classes, "(no object)"), (*truth.classes, "(missed)")
    for i, row in enumerate(matrix.counts):
        for j, count in enumerate(row):
            assert counts.pop((true[i], seen[j]), 0) == count
    assert not counts


def test_intervals_hold_no_row_for_each_class() -> None:
    few, many = inputs(3, [0, 2]), inputs(20_000, [0, 19_999])
    one, other = (
        Bootstrap(truth, resamples=20).samples(found, 0.3) for truth, found in (few, many)
    )
    assert len(one.ap_per_class) == len(other.ap_per_class) == 2
    for mine, yours in zip(one.ap_per_class, other.ap_per_class, strict=True):
        equal(mine, yours)
    lean = Bootstrap(many[0], resamples=20).samples(many[1], 0.3, per_class=False)
    assert lean.ap_per_class == ()
    for metric, values in lean.overall.items():
        equal(values, other.overall[metric])
        equal(values, one.overall[metric])


def equal(one: Sampled, other: Sampled) -> None:
    np.testing.assert_array_equal(one.value, other.value)
    np.testing.assert_array_equal(one.resampled, other.resampled)
    np.testing.assert_array_equal(one.left_out, other.left_out)


def test_too_many_that_do_occur_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate_kit.metrics.average_precision._MOST_CLASSES", 1)
    truth, found = inputs(3, [0, 2])
    with pytest.raises(UserError, match="of 2 classes; AP is computed for up to 1"):
        average_precision(truth, found)


def test_a_figure_of_many_classes_shows_those_that_change_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ablate_kit.reports.sweep_reports.sweep_figures.MOST_CLASSES", 4)
    truth, found = inputs(9, [8, 1, 2, 5, 3, 6])
    best = Detections(
        image=truth.image, boxes=truth.boxes, scores=found.scores, labels=truth.labels
    )
    results = [
        Result.of(name, "x", truth, one, threshold=0.2, fixed_threshold=0.5)
        for name, one in (("unmodified", best), ("cut", found))
    ]
    samples = [Bootstrap(truth, resamples=20).samples(one, 0.2) for one in (best, found)]
    by_class = [class_changes(*samples)]
    drawn = {
        name: rest for name, *rest in figures(results, changes(samples[0], samples[1:]), by_class)
    }
    caption, figure = drawn["classes"]
    assert "4 classes that change most" in caption
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    change = {
        f"c{label}": abs(one.change)
        for label, one in zip([1, 2, 3, 5, 6, 8], by_class[0], strict=True)
    }
    assert names == sorted(names)
    assert sorted(change[name] for name in names) == sorted(change.values())[-4:]


def test_a_file_has_all_classes_and_a_terminal_those_that_change_most() -> None:
    truth, found = inputs(9, [8, 1, 2, 5, 3, 6])
    best = replace(found, labels=truth.labels)
    results = [
        Result.of(name, "checkpoint", truth, one, threshold=0.2, fixed_threshold=0.5)
        for name, one in (("one", best), ("other", found))
    ]
    compared = compare(truth, results, Statistics(resamples=20))
    whole, short = (class_changes_table(results, compared, most) for most in (None, 2))
    assert (len(whole.rows), len(short.rows)) == (6, 2)
    assert "that change most" not in whole.title
    assert "; the 2 that change most" in short.title
    sizes = [abs(float(row[4].rstrip("*"))) for row in whole.rows]
    assert [row[0] for row in whole.rows] == sorted(row[0] for row in whole.rows)  # as classes are
    assert [abs(float(row[4].rstrip("*"))) for row in short.rows] == sorted(sizes)[:-3:-1]

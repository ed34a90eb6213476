"""What the report says about object queries, worked out by hand."""

import numpy as np
import pytest

from ablate_kit.metrics.detections import Detections
from ablate_kit.reports.sweep_reports.query_boxes import (
    costliest_of_each_kind,
    displacement_figure,
    moves,
    query_figure,
    slots,
)
from tests.ablate_kit.made_up import truth_of

# Two images of 100 x 50 pixels.
TRUTH = truth_of([0], [0, 0, 9, 9], [0], images=2, heights=np.full(2, 50))


def found(rows: list[tuple[int, int, float, float, float]]) -> Detections:
    """Boxes of 20 x 10 pixels from (image, query, score, x1, y1)."""
    image, query, score, x, y = np.array(rows).reshape(-1, 5).T
    boxes = np.stack([x, y, x + 20, y + 10], axis=1)
    whole = image.astype(int)
    return Detections(
        whole, boxes, score, np.zeros(len(rows), int), queries=query.astype(int)
    )  # fmt: skip


BEFORE = found([(0, 3, 0.9, 10, 20), (0, 3, 0.2, 70, 0), (1, 3, 0.6, 50, 20), (1, 5, 0.3, 0, 0)])


def test_a_query_has_its_best_box_on_each_image() -> None:
    best = slots(TRUTH, BEFORE)
    assert best is not None
    assert best.image.tolist() == [0, 1, 1]
    assert best.query.tolist() == [3, 3, 5]
    assert best.scores.tolist() == [0.9, 0.6, 0.3]
    np.testing.assert_allclose(best.center, [[0.2, 0.5], [0.6, 0.5], [0.1, 0.1]])
    np.testing.assert_allclose(best.size, [[0.2, 0.2]] * 3)


def test_boxes_that_score_enough_are_followed_by_their_query() -> None:
    before = slots(TRUTH, BEFORE)
    after = slots(TRUTH, found([(0, 3, 0.1, 20, 15), (0, 5, 0.9, 10, 20), (1, 5, 0.9, 50, 20)]))
    assert before is not None
    assert after is not None
    moved = moves(before, after, 0.5)
    np.testing.assert_allclose(moved.by, [[0.1, -0.1], [np.nan, np.nan]])
    assert moved.numbers() == {
        "boxes": 2,
        "gone": 1,
        "median_distance": pytest.approx(np.hypot(0.1, 0.1)),
        "mean_x": pytest.approx(0.1),
        "mean_y": pytest.approx(-0.1),
    }
    nothing = slots(TRUTH, found([]))
    assert nothing is not None
    assert moves(before, nothing, 0.5).numbers()["gone"] == 2
    assert moves(before, nothing, 0.5).numbers()["mean_x"] is None
    assert displacement_figure({"cut": moved, "all gone": moves(before, nothing, 0.5)}) is not None
    assert displacement_figure({"cut": moves(nothing, before, 0.5)}) is None


def test_nothing_is_said_where_queries_are_not_known() -> None:
    unknown = Detections(BEFORE.image, BEFORE.boxes, BEFORE.scores, BEFORE.labels)
    assert slots(TRUTH, unknown) is None


def test_a_panel_for_each_query_that_detects() -> None:
    best = slots(TRUTH, BEFORE)
    assert best is not None
    made = query_figure(best)
    assert made is not None
    (panel,) = made[1].axes
    left, right = panel.texts
    assert [left.get_text(), right.get_text()] == ["query 3", "query 5"]
    dots = np.concatenate([line.get_xydata() for line in panel.lines if line.get_marker() == "o"])
    # Below its name, by as much as its box is right of the middle of its image, and down.
    own = {
        (round(x - name.get_position()[0] + 0.5, 4), round(float(y), 4))
        for x, y in dots
        for name in (left, right)
        if abs(x - name.get_position()[0]) <= 0.5
    }
    assert len(dots) == 3
    assert own == {tuple(one) for one in np.round(best.center, 4).tolist()}


def test_every_kind_has_its_turn() -> None:
    kinds = ["heads", "heads", "heads", None, "layers", "units"]
    values = [0.5, 0.3, 0.4, 0.1, 0.35, None]
    assert costliest_of_each_kind(kinds, values, 0.6, 3) == [1, 4, 2]
    assert costliest_of_each_kind(kinds, values, 0.6, 9) == [1, 4, 2, 0]
    # Without a tenth of the baseline's AP there is little to see.
    assert costliest_of_each_kind(kinds, [0.5, 0.01, 0.4, 0.1, 0.02, None], 0.6, 9) == [2, 0, 1, 4]

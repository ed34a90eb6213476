import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from ablate_kit.metrics.boxes import coco_overlap, giou, iou

coordinate = st.one_of(
    st.integers(-20, 20).map(float),
    st.floats(-1e4, 1e4, width=32),
    st.floats(-(2.0**127), 2.0**127, width=32),
)
box = st.tuples(*[coordinate] * 4)
some_boxes = st.lists(box, min_size=1, max_size=6).map(np.array)


def naive_overlaps(a, b):
    """IoU and GIoU of two boxes, from the definition."""
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    overlap = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return overlap / union, overlap / union - (hull - union) / hull


def test_two_squares_that_share_a_quarter():
    a, b = np.array([0.0, 0, 2, 2]), np.array([1.0, 1, 3, 3])
    assert iou(a, b) == pytest.approx(1 / 7)
    assert giou(a, b) == pytest.approx(1 / 7 - 2 / 9)


def test_matrices_equal_the_definition_box_by_box():
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.uniform(0, 9, (n, 2, 2)), axis=1).reshape(n, 4) for n in (7, 5))
    expected = np.array([[naive_overlaps(one, other) for other in b] for one in a])
    np.testing.assert_allclose(iou(a[:, None], b), expected[..., 0], rtol=1e-12)
    np.testing.assert_allclose(giou(a[:, None], b), expected[..., 1], rtol=1e-12)


@settings(deadline=None, max_examples=200)
@given(some_boxes, some_boxes)
def test_overlaps_of_any_boxes_are_bounded_and_symmetric(a, b):
    for precision in (np.float32, np.float64):
        one, other = a.astype(precision)[:, None], b.astype(precision)[None]
        overlap, generalized = iou(one, other), giou(one, other)
        slack = 8 * np.finfo(precision).eps
        assert np.all((overlap >= 0) & (overlap <= 1 + slack))
        assert np.all((generalized >= -1 - slack) & (generalized <= overlap + slack))
        np.testing.assert_array_equal(overlap, iou(other, one))
        np.testing.assert_array_equal(generalized, giou(other, one))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # one point twice
        ([0, 0, 5, 0], [2, 0, 9, 0], 0.0),  # two pieces of one line
        ([0, 0, 0, 2], [4, 0, 4, 2], -1.0),  # two lines that span a rectangle of nothing
        ([0, 0, 2, 2], [1, 1, 1, 1], 0.0),  # a point within a square
        ([0, 0, 2, 2], [3, 0, 1, 2], -1 / 3),  # an inverted box counts as empty, at (3, 0)
    ],
)
def test_boxes_without_area_have_a_giou(a, b, expected):
    a, b = np.array(a, dtype=float), np.array(b, dtype=float)
    assert giou(a, b) == pytest.approx(expected)
    assert iou(a, b) == 0


def test_coco_overlap_is_bit_equal_to_pycocotools():
    rng = np.random.default_rng(1)
    found = rng.uniform(0, 60, (40, 4)).round(1)
    truth = rng.uniform(0, 60, (30, 4)).round(1)
    found[::9, 2], truth[::7, 3] = 0, 0
    crowd = rng.random(30) < 0.3
    expected = mask.iou(found, truth, crowd.astype(np.uint8))
    for i, j in itertools.product(range(40), range(30)):
        overlap = coco_overlap(found[[i]], truth[[j]], crowd[[j]])
        assert overlap[0] == expected[i, j]

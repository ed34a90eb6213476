import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate_kit.metrics.giou import matched_giou, published_giou
from ablate_kit.metrics.matching import BoxPairs
from tests.ablate_kit.made_up import found_of, truth_of

CLASSES = 3


def ground_truth(labels, ignore=()):
    n = len(labels)
    return truth_of(
        np.zeros(n), np.zeros((n, 4)), labels, classes=[f"c{i}" for i in range(CLASSES)],
        ignore=np.isin(np.arange(n), ignore),
    )  # fmt: skip


def detections(labels):
    n = len(labels)
    return found_of(np.zeros(n), np.zeros((n, 4)), np.zeros(n), labels)


def pairs(truth, giou):
    return BoxPairs(np.array(truth, int), np.arange(len(truth)), np.array(giou, float))


def test_published_per_class_mean_sees_only_pairs_of_one_class():
    result = published_giou(
        ground_truth([0, 0, 1]), detections([0, 1, 1]), pairs([0, 1, 2], [0.8, 0.4, -0.3])
    )
    assert result.overall == pytest.approx(0.3)
    assert result.per_class[:2] == pytest.approx([0.8, -0.3])
    assert np.isnan(result.per_class[2])


def test_a_missed_ground_truth_counts_minus_one():
    truth = ground_truth([0, 0, 1, 2, 2], ignore=[4])
    result = matched_giou(truth, pairs([0, 2], [0.8, 0.4]))
    assert result.matched_mean == pytest.approx(0.6)
    assert result.match_rate == 0.5
    assert result.penalized_mean == pytest.approx((0.8 + 0.4 - 1 - 1) / 4)
    assert result.class_match_rate.tolist() == [0.5, 1, 0]
    assert result.class_penalized_mean == pytest.approx([-0.1, 0.4, -1])
    np.testing.assert_allclose(result.class_matched_mean, [0.8, 0.4, np.nan])


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_misses_never_raise_the_mean(data):
    labels = data.draw(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=12))
    truth = data.draw(st.lists(st.sampled_from(range(len(labels))), unique=True, min_size=1))
    giou = data.draw(
        st.lists(st.floats(-1, 1), min_size=len(truth), max_size=len(truth)), label="giou"
    )
    result = matched_giou(ground_truth(labels), pairs(truth, giou))
    assert -1 <= result.penalized_mean <= result.matched_mean + 1e-12
    assert 0 < result.match_rate <= 1
    if result.match_rate == 1:
        assert result.penalized_mean == result.matched_mean

import itertools

import numpy as np
import pytest

from ablate_kit.metrics import overlaps
from ablate_kit.metrics.boxes import giou, iou
from ablate_kit.metrics.detections import MAX_DETECTIONS, Detections
from ablate_kit.metrics.matching import Outcome, greedy_matches, hungarian_pairs
from tests.ablate_kit.made_up import found_of, truth_of


def ground_truth(image, boxes, labels, ignore=None, *, images=1, classes=1):
    boxes = np.array(boxes, dtype=float).reshape(-1, 4)
    n = len(boxes)
    return truth_of(
        image, boxes, labels, images=images, side=640, classes=[f"c{i}" for i in range(classes)],
        ignore=np.zeros(n, dtype=bool) if ignore is None else np.array(ignore),
    )  # fmt: skip


def boxes_of(rng, n):
    """Integer boxes that often meet: overlaps are exact, and ties are common."""
    corner = rng.integers(0, 12, (n, 2))
    return np.concatenate([corner, corner + rng.integers(1, 9, (n, 2))], axis=1).astype(float)


def corpus(seed, images=4, classes=3):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 30), rng.integers(0, 80)
    truth = ground_truth(
        np.sort(rng.integers(0, images, n)),
        boxes_of(rng, n),
        rng.integers(0, classes, n),
        rng.random(n) < 0.2,
        images=images,
        classes=classes,
    )
    found = found_of(
        rng.integers(0, images, m),
        boxes_of(rng, m),
        rng.integers(0, 9, m) / 8,
        rng.integers(0, classes, m),
    )
    return truth, found


def naive_greedy(truth, found, threshold):
    """COCO's rule, one detection after another."""
    overlaps = iou(found.boxes[:, None], truth.boxes)
    area = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    outcome, partner = [0] * len(found), [-1] * len(found)
    free = set(range(len(truth)))
    for d in sorted(range(len(found)), key=lambda d: -found.scores[d]):
        best, best_overlap = -1, threshold
        for crowd in (False, True):
            for t in range(len(truth)):
                same = (
                    truth.image[t] == found.image[d]
                    and truth.labels[t] == found.labels[d]
                    and truth.ignore[t] == crowd
                )
                if not same or (t not in free and not crowd):
                    continue
                overlap = overlaps[d, t]
                if crowd:
                    width, height = np.minimum(found.boxes[d, 2:], truth.boxes[t, 2:]) - np.maximum(
                        found.boxes[d, :2], truth.boxes[t, :2]
                    )
                    overlap = max(width, 0) * max(height, 0) / area[d]
                if overlap >= best_overlap:
                    best, best_overlap = t, overlap
            if best >= 0:
                break
        if best >= 0:
            free.discard(best)
            partner[d] = best
            outcome[d] = Outcome.IGNORED if truth.ignore[best] else Outcome.TRUE_POSITIVE
    return outcome, partner


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75])
def test_greedy_matching_equals_the_rule_spelled_out(seed, threshold):
    truth, found = corpus(seed)
    matches = greedy_matches(truth, found, threshold)
    outcome, partner = naive_greedy(truth, found, threshold)
    assert matches.outcome.tolist() == outcome
    assert matches.truth.tolist() == partner
    expected = [np.sum((truth.labels == k) & ~truth.ignore) for k in range(3)]
    assert matches.support.tolist() == expected


@pytest.mark.parametrize("seed", range(10))
def test_one_matching_serves_every_score_threshold(seed):
    truth, found = corpus(seed)
    whole = greedy_matches(truth, found)
    for threshold in np.unique(found.scores):
        kept = found.scores >= threshold
        alone = greedy_matches(truth, found.rows(kept))
        np.testing.assert_array_equal(alone.outcome, whole.outcome[kept])
        np.testing.assert_array_equal(alone.truth, whole.truth[kept])


def test_blocks_bound_the_memory_and_not_the_result(monkeypatch):
    truth, found = corpus(1)
    whole = greedy_matches(truth, found)
    for block in (1, 7, 50):
        monkeypatch.setattr(overlaps, "_BLOCK", block)
        np.testing.assert_array_equal(greedy_matches(truth, found).truth, whole.truth)


SQUARE = [0, 0, 10, 10]


def test_the_second_box_on_one_object_is_a_false_positive():
    truth = ground_truth([0], [SQUARE], [0])
    matches = greedy_matches(truth, found_of([0, 0], [SQUARE] * 2, [0.3, 0.9], [0, 0]))
    assert matches.outcome.tolist() == [Outcome.FALSE_POSITIVE, Outcome.TRUE_POSITIVE]


def test_of_equal_scores_the_earlier_detection_is_served_first():
    truth = ground_truth([0], [SQUARE], [0])
    matches = greedy_matches(truth, found_of([0, 0], [SQUARE] * 2, [0.5, 0.5], [0, 0]))
    assert matches.outcome.tolist() == [Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE]


def test_a_crowd_takes_any_number_of_boxes_by_their_own_area():
    truth = ground_truth([0], [[0, 0, 100, 100]], [0], [True])
    small = [[0, 0, 10, 10], [50, 50, 60, 60], [95, 0, 105, 10], [96, 0, 106, 10]]
    matches = greedy_matches(truth, found_of([0] * 4, small, [0.9, 0.8, 0.7, 0.6], [0] * 4))
    expected = [Outcome.IGNORED] * 3 + [Outcome.FALSE_POSITIVE]  # the last is in it by 40 %
    assert matches.outcome.tolist() == expected
    assert matches.truth.tolist() == [0, 0, 0, -1]
    assert matches.support.tolist() == [0]


def test_boxes_beyond_the_limit_are_ignored_even_where_they_would_match():
    truth = ground_truth([0], [SQUARE], [0])
    n = MAX_DETECTIONS + 1
    far = [[500 + i, 0, 510 + i, 10] for i in range(n - 1)]
    found = found_of([0] * n, [*far, SQUARE], [0.9] * (n - 1) + [0.1], [0] * n)
    assert greedy_matches(truth, found).outcome[-1] == Outcome.IGNORED
    found = found_of([0] * n, [*far, SQUARE], [0.9] * (n - 1) + [1.0], [0] * n)
    outcome = greedy_matches(truth, found).outcome
    assert outcome[-1] == Outcome.TRUE_POSITIVE
    assert np.sum(outcome == Outcome.FALSE_POSITIVE) == MAX_DETECTIONS - 1


def best_sum(gain):
    """The largest sum of one-to-one pairs, over all of them."""
    rows, columns = gain.shape
    if rows > columns:
        return best_sum(gain.T)
    return max(
        sum(gain[row, column] for row, column in enumerate(order))
        for order in itertools.permutations(range(columns), rows)
    )


@pytest.mark.parametrize("seed", range(12))
def test_hungarian_pairs_have_the_largest_sum_of_giou_in_each_image(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 5, 2), rng.integers(1, 6, 2)
    truth_image, found_image = np.repeat([0, 1], n), rng.permutation(np.repeat([0, 1], m))
    truth = ground_truth(truth_image, boxes_of(rng, n.sum()), truth_image * 0, images=2)
    found = found_of(found_image, boxes_of(rng, m.sum()), rng.random(m.sum()), found_image * 0)
    pairs = hungarian_pairs(truth, found)
    gain = giou(truth.boxes[:, None], found.boxes)
    np.testing.assert_array_equal(truth.image[pairs.truth], found.image[pairs.detection])
    np.testing.assert_array_equal(pairs.giou, gain[pairs.truth, pairs.detection])
    for image in (0, 1):
        rows, columns = truth.image == image, found.image == image
        here = rows[pairs.truth]
        assert len(set(pairs.truth[here])) == here.sum() == min(rows.sum(), columns.sum())
        assert len(set(pairs.detection[here])) == here.sum()
        assert pairs.giou[here].sum() == pytest.approx(best_sum(gain[np.ix_(rows, columns)]))


def test_pairs_leave_out_what_they_are_asked_to():
    truth = ground_truth([0, 0], [SQUARE, [50, 50, 60, 60]], [0, 0], [False, True])
    found = found_of([0, 0], [SQUARE, [50, 50, 60, 60]], [0.2, 0.7], [0, 0])
    assert hungarian_pairs(truth, found).truth.tolist() == [0]
    everything = hungarian_pairs(truth, found, include_ignored=True)
    assert everything.detection.tolist() == [0, 1]
    strong = hungarian_pairs(truth, found, 0.7, include_ignored=True)
    assert strong.detection.tolist() == [1]
    assert len(hungarian_pairs(truth, found, 0.71).giou) == 0


def test_a_single_precision_score_is_compared_as_the_number_it_is():
    truth = ground_truth([0], [SQUARE], [0])
    boxes = np.array([SQUARE], dtype=np.float32)
    zero = np.zeros(1, dtype=int)
    found = Detections(zero, boxes, np.array([0.7], np.float32), zero)  # 0.699999988
    assert len(hungarian_pairs(truth, found, 0.7).giou) == 0
    assert len(hungarian_pairs(truth, found, float(np.float32(0.7))).giou) == 1

import numpy as np
import pytest

from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.f1 import calibrate, f1_at, f1_matched_pairs
from ablate_kit.metrics.matching import BoxPairs, Matches, Outcome
from tests.ablate_kit.made_up import truth_of

CLASSES = 4


def some_matches(seed, n=60):
    """Outcomes that a matching could have given, with many ties in score."""
    rng = np.random.default_rng(seed)
    outcome = rng.choice([Outcome.IGNORED, 0, 0, 1], n).astype(np.int8)
    labels = rng.integers(0, CLASSES, n)
    found = np.bincount(labels[outcome == Outcome.TRUE_POSITIVE], minlength=CLASSES)
    support = found + rng.integers(0, 6, CLASSES)
    return Matches(outcome, np.full(n, -1), rng.integers(0, 12, n) / 11, labels, support)


def no_matches(support):
    none = np.zeros(0, dtype=np.int64)
    return Matches(none.astype(np.int8), none, np.zeros(0), none, np.array(support))


def naive_f1(matches, threshold, labels):
    tp = fp = 0
    for outcome, score, label in zip(matches.outcome, matches.scores, matches.labels, strict=True):
        if score >= threshold and label in labels:
            tp += outcome == Outcome.TRUE_POSITIVE
            fp += outcome == Outcome.FALSE_POSITIVE
    fn = sum(matches.support[label] for label in labels) - tp
    precision = tp / (tp + fp) if tp + fp else 0
    recall = tp / (tp + fn)
    f1 = 2 * precision * recall / (precision + recall) if tp else 0
    return f1, precision, recall


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.0, 0.5, 6 / 11, 1.0, 1.1])
def test_f1_equals_the_definition(seed, threshold):
    matches = some_matches(seed)
    result = f1_at(matches, threshold)
    expected = naive_f1(matches, threshold, range(CLASSES))
    assert (result.f1, result.precision, result.recall) == pytest.approx(expected)
    with_truth = [label for label in range(CLASSES) if matches.support[label]]
    by_class = [naive_f1(matches, threshold, [label]) for label in with_truth]
    columns = (result.class_f1, result.class_precision, result.class_recall)
    np.testing.assert_allclose(np.stack(columns, axis=1)[with_truth], by_class)
    assert result.macro_f1 == pytest.approx(np.mean([row[0] for row in by_class]))


def test_a_class_without_ground_truth_counts_against_micro_and_not_in_macro():
    scores, labels = np.array([0.9, 0.8]), np.array([0, 1])
    outcome = np.array([Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE], dtype=np.int8)
    result = f1_at(Matches(outcome, np.array([0, -1]), scores, labels, np.array([1, 0])), 0.5)
    assert result.f1 == pytest.approx(2 / 3)
    assert result.macro_f1 == 1
    assert np.isnan(result.class_f1[1])
    assert result.false_positives.tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(20))
def test_calibration_finds_the_best_of_all_thresholds(seed):
    matches = some_matches(seed)
    tried = {score: f1_at(matches, score).f1 for score in matches.scores}
    best = max(tried.values())
    chosen = calibrate(matches)
    assert tried[chosen] == best
    assert chosen == max(score for score, f1 in tried.items() if f1 == best and chosen in tried)


def test_detections_of_one_score_stay_or_go_together():
    """The true positive at 0.5 alone would be perfect; it comes with two false ones."""
    outcome = np.array([1, 0, 0], dtype=np.int8)
    labels = np.zeros(3, dtype=int)
    matches = Matches(outcome, labels, np.full(3, 0.5), labels, np.array([1]))
    assert calibrate(matches) == 0.5
    assert f1_at(matches, calibrate(matches)).f1 == pytest.approx(0.5)


def test_calibration_without_detections_keeps_everything():
    assert calibrate(no_matches([3])) == 0


def paired(true_labels, found_labels, classes=CLASSES, unpaired=()):
    """A ground truth, detections and pairs in which the i-th label meets the i-th."""
    labels = np.array([*true_labels, *unpaired], dtype=int)
    n, p = len(labels), len(true_labels)
    truth = truth_of(
        np.zeros(n), np.zeros((n, 4)), labels, classes=[f"c{i}" for i in range(classes)]
    )  # fmt: skip
    found = Detections(
        np.zeros(p, dtype=int), np.zeros((p, 4)), np.zeros(p), np.array(found_labels, dtype=int)
    )
    return truth, found, BoxPairs(np.arange(p), np.arange(p), np.zeros(p))


def naive_weighted_f1(true, found):
    """scikit-learn's f1_score(true, found, average="weighted", zero_division=0) in words."""
    total = 0.0
    per_class = {}
    for label in {*true, *found}:
        tp = sum(t == f == label for t, f in zip(true, found, strict=True))
        precision = tp / found.count(label) if label in found else 0
        recall = tp / true.count(label) if label in true else 0
        per_class[label] = 2 * precision * recall / (precision + recall) if tp else 0
        total += per_class[label] * true.count(label)
    return total / len(true), per_class


@pytest.mark.parametrize("seed", range(10))
def test_matched_pairs_f1_equals_the_weighted_definition(seed):
    rng = np.random.default_rng(seed)
    true, found = rng.integers(0, CLASSES, (2, 9)).tolist()
    overall, per_class = naive_weighted_f1(true, found)
    result = f1_matched_pairs(*paired(true, found))
    assert result.overall == pytest.approx(overall)
    for label in range(CLASSES):
        value = result.per_class[label]
        assert value == pytest.approx(per_class[label]) if label in per_class else np.isnan(value)


def test_matched_pairs_f1_without_pairs_is_zero():
    result = f1_matched_pairs(*paired([], [], unpaired=[0, 2]))
    assert result.overall == 0
    np.testing.assert_array_equal(result.per_class, [0, np.nan, 0, np.nan])

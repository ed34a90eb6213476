"""Curves against F1 at each of their thresholds."""

import numpy as np
import pytest

from ablate_kit.metrics.curves import curves
from ablate_kit.metrics.f1 import calibrate, f1_at
from ablate_kit.metrics.matching import Matches, Outcome


def matches(seed, digits):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 60))
    outcome = rng.choice([Outcome.IGNORED, Outcome.FALSE_POSITIVE, Outcome.TRUE_POSITIVE], n)
    labels = rng.integers(0, 3, n)
    hits = np.bincount(labels[outcome == Outcome.TRUE_POSITIVE], minlength=3)
    support = hits + rng.integers(0, 5, 3)
    return Matches(outcome.astype(np.int8), np.full(n, -1), rng.random(n).round(digits), labels,
                   support)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("digits", [1, 6])
def test_every_point_is_f1_at_its_threshold(seed, digits):
    found = matches(seed, digits)
    whole = curves(found)
    assert (np.diff(whole.threshold) < 0).all()
    for i, threshold in enumerate(whole.threshold):
        expected = f1_at(found, threshold)
        assert (whole.precision[i], whole.recall[i], whole.f1[i]) == pytest.approx(
            (expected.precision, expected.recall, expected.f1), nan_ok=True
        )
    if whole.best is not None:
        assert whole.threshold[whole.best] == calibrate(found)
    for label in range(3):
        one = curves(found, label)
        assert one.support == found.support[label]
        for i, threshold in enumerate(one.threshold):
            expected = f1_at(found, threshold)
            assert one.precision[i] == pytest.approx(expected.class_precision[label]) or (
                one.support == 0
            )
            assert one.recall[i] == pytest.approx(expected.class_recall[label], nan_ok=True)

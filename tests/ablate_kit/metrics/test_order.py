"""Orders by counting are those by comparing."""

import numpy as np
import pytest

from ablate_kit.metrics.order import by_falling, stable_order


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(0, np.int32), (3, np.int16), (70_000, np.int32), (2**33, np.int64), (2**33, np.uint64)],
)
def test_stable_order(highest: int, dtype: type) -> None:
    keys = np.random.default_rng(0).integers(0, highest + 1, 500).astype(dtype)
    keys = np.concatenate([keys, keys[:100]])
    assert np.array_equal(stable_order(keys), np.argsort(keys, kind="stable"))


def test_nothing_is_in_order() -> None:
    assert len(stable_order(np.zeros(0, dtype=np.int32))) == 0


def test_falling_scores_by_keys() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 5, 400) / 4
    image, label = rng.integers(0, 7, 400), rng.integers(0, 3, 400)
    assert np.array_equal(by_falling(scores, label, image), np.lexsort((-scores, label, image)))

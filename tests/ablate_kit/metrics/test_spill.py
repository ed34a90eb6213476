"""Detections that are read again are those that were there."""

from pathlib import Path

import numpy as np
import pytest

from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.spill import Loaded, Spill


def found(seed: int, dtype: type, *, sized: bool) -> Detections:
    rng = np.random.default_rng(seed)
    return Detections(
        image=rng.integers(0, 70_000, 50),
        boxes=rng.uniform(0, 100, (50, 4)).astype(dtype),
        scores=rng.random(50).astype(dtype),
        labels=rng.integers(0, 80, 50),
        sizes=rng.uniform(0, 50, (50, 2)) if sized else None,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sized", [False, True])
def test_every_number_comes_back(tmp_path: Path, dtype: type, sized: bool) -> None:
    spill = Spill(tmp_path)
    kept = [found(seed, dtype, sized=sized) for seed in range(3)]
    loads = Loaded({str(seed): spill.keep(one) for seed, one in enumerate(kept)})
    assert len(loads) == 3
    for (_, again), one in zip(loads.items(), kept, strict=True):
        for name in ("image", "boxes", "scores", "labels", "xywh"):
            assert np.array_equal(getattr(again, name), getattr(one, name))
    assert loads["0"] is not loads["0"]


def test_none_comes_back_as_none(tmp_path: Path) -> None:
    assert len(Spill(tmp_path).keep(Detections.concatenate([]))()) == 0

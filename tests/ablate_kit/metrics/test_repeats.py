"""Images and draws are two sources of variance, and the interval covers both."""

import numpy as np
import pytest
from scipy.stats import t as student

from ablate_kit.errors import UserError
from ablate_kit.metrics.bootstrap import draws
from ablate_kit.metrics.repeats import combined

IMAGES = 60


def study(
    seed: int, repeats: int, of_draws: float, resamples: int = 200
) -> list[tuple[np.ndarray, np.ndarray]]:
    """A metric that is a mean over images; an ablation changes it by 1 on average.

    Images differ in the change by a deviation of 1, draws by ``of_draws``, and each pair of an
    image and a draw by 0.5.
    """
    rng = np.random.default_rng(seed)
    before = rng.normal(0, 1, IMAGES)
    effect = 1 + rng.normal(0, 1, IMAGES)
    weights = draws(IMAGES, resamples, seed) / IMAGES
    pairs = []
    for _ in range(repeats):
        own = rng.normal(0, of_draws) + rng.normal(0, 0.5, IMAGES)
        pairs.append((before @ weights, (before + effect + own) @ weights))
    return pairs


def test_the_parts_are_those_of_the_definition() -> None:
    pairs = study(0, 4, 0.3)
    found = combined(pairs)
    changes = np.stack([after - before for before, after in pairs])
    assert found.change == pytest.approx(changes[:, 0].mean())
    assert found.error_images == pytest.approx(changes[:, 1:].mean(axis=0).std(ddof=1))
    assert found.deviation_draws == pytest.approx(changes[:, 0].std(ddof=1))
    images, between = found.error_images**2, found.deviation_draws**2 / 4
    assert found.error == pytest.approx(np.sqrt(images + between))
    freedom = (images + between) ** 2 / (between**2 / 3)
    assert found.high - found.change == pytest.approx(student.ppf(0.975, freedom) * found.error)
    assert found.change - found.low == pytest.approx(found.high - found.change)
    assert found.p == pytest.approx(2 * student.sf(found.change / found.error, freedom))


@pytest.mark.parametrize("of_draws", [0.0, 0.3, 1.0])
def test_intervals_cover_the_true_change(of_draws: float) -> None:
    inside = [
        found.low < 1 < found.high
        for seed in range(400)
        for found in [combined(study(seed, 3, of_draws, resamples=100))]
    ]
    assert 0.92 < np.mean(inside) < 0.98
    # Images alone would not do where draws differ.
    if of_draws == 1.0:
        narrow = [
            abs(found.change - 1) < 1.96 * found.error_images
            for seed in range(400)
            for found in [combined(study(seed, 3, of_draws, resamples=100))]
        ]
        assert np.mean(narrow) < 0.6


def test_what_does_not_vary_has_no_interval() -> None:
    flat = np.full(11, 0.5)
    same = combined([(flat, flat), (flat, flat)])
    assert (same.change, same.error, same.p) == (0.0, 0.0, 1.0)
    lower = combined([(flat, flat - 0.25), (flat, flat - 0.25)])
    assert (lower.change, lower.low, lower.high, lower.p) == (-0.25, -0.25, -0.25, 0.0)
    undefined = np.full(11, np.nan)
    assert combined([(flat, undefined), (flat, flat)]).change is None


def test_one_draw_is_refused() -> None:
    with pytest.raises(UserError, match="1 repeats tell nothing"):
        combined(study(0, 1, 0.1))

"""Images and draws are two sources of variance, and the interval covers both."""

import numpy as np
import pytest
from scipy.stats import t as student

from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.bootstrap import Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import held_against_chance
from ablate_kit.metrics.uncertainty.repeats import combined

IMAGES = 60


def study(
    seed: int, repeats: int, of_draws: float, resamples: int = 200
) -> list[tuple[Sampled, Sampled]]:
    """A metric that is a mean over images; an ablation changes it by 1 on average.

    Images differ in the change by a deviation of 1, draws by ``of_draws``, and each pair of an
    image and a draw by 0.5.
    """
    rng = np.random.default_rng(seed)
    before = rng.normal(0, 1, IMAGES)
    effect = 1 + rng.normal(0, 1, IMAGES)
    weights = draws(IMAGES, resamples, seed) / IMAGES
    rest = left_out(IMAGES, IMAGES, seed) / (IMAGES - 1)
    pairs = []
    for _ in range(repeats):
        own = rng.normal(0, of_draws) + rng.normal(0, 0.5, IMAGES)
        pairs.append(tuple(sampled(one, weights, rest) for one in (before, before + effect + own)))
    return pairs


def sampled(values: np.ndarray, weights: np.ndarray, rest: np.ndarray) -> Sampled:
    means = values @ weights
    return Sampled(float(means[0]), means[1:], values @ rest, IMAGES, ratio=True)


def flat(value: float) -> Sampled:
    return Sampled(value, np.full(11, value), np.full(IMAGES, value), IMAGES, ratio=True)


def test_the_parts_are_those_of_the_definition() -> None:
    pairs = study(0, 4, 0.3)
    found = combined(pairs)
    changes = [after - before for before, after in pairs]
    values = [one.value for one in changes]
    assert found.change == pytest.approx(np.mean(values))
    resampled = np.mean([one.resampled for one in changes], axis=0)
    rest = np.mean([one.left_out for one in changes], axis=0)
    mean = Sampled(float(np.mean(values)), resampled, rest, IMAGES, ratio=True)
    assert found.error_images == pytest.approx(held_against_chance(mean).error)
    assert found.deviation_draws == pytest.approx(np.std(values, ddof=1))
    images, between = found.error_images**2, found.deviation_draws**2 / 4
    assert found.error == pytest.approx(np.sqrt(images + between))
    parts = images**2 / held_against_chance(mean).freedom + between**2 / 3
    freedom = (images + between) ** 2 / parts
    assert found.high - found.change == pytest.approx(student.ppf(0.975, freedom) * found.error)
    assert found.change - found.low == pytest.approx(found.high - found.change)
    assert found.p == pytest.approx(2 * student.sf(found.change / found.error, freedom))


def test_draws_that_differ_take_from_the_skewness_of_images() -> None:
    rng = np.random.default_rng(5)
    weights, rest = draws(IMAGES, 2000, 0) / IMAGES, left_out(IMAGES, IMAGES, 0) / (IMAGES - 1)
    before, losses = rng.normal(0, 1, IMAGES), -rng.exponential(1, IMAGES)
    sides = []
    for of_draws in (0.01, 1.0):
        shifts = of_draws * np.array([-1.0, 0.0, 1.0])
        pairs = [
            tuple(sampled(one, weights, rest) for one in (before, before + losses + shift))
            for shift in shifts
        ]
        found = combined(pairs)
        sides.append((found.change - found.low) / (found.high - found.change))
    assert 1 < sides[1] < sides[0]


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
    same = combined([(flat(0.5), flat(0.5)), (flat(0.5), flat(0.5))])
    assert (same.change, same.error, same.p) == (0.0, 0.0, 1.0)
    lower = combined([(flat(0.5), flat(0.25)), (flat(0.5), flat(0.25))])
    assert (lower.change, lower.low, lower.high, lower.p) == (-0.25, -0.25, -0.25, 0.0)
    undefined = (flat(0.5), flat(np.nan))
    assert combined([undefined, (flat(0.5), flat(0.5))]).change is None


def test_one_draw_is_refused() -> None:
    with pytest.raises(UserError, match="1 repeats tell nothing"):
        combined(study(0, 1, 0.1))

"""Images and draws are two sources of variance, and the interval covers both."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.bootstrap import Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.repeats import combined
from ablate_kit.metrics.uncertainty.two_chances import TwoChances

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
    assert found.error_images == pytest.approx(paired_test(mean).error)
    assert found.deviation_draws == pytest.approx(np.std(values, ddof=1))
    images, between = found.error_images**2, found.deviation_draws**2 / 4
    assert found.error == pytest.approx(np.sqrt(images + between))
    alone = paired_test(mean)
    far = np.hypot(alone.interval()[1] - alone.change, student.ppf(0.975, 3) * np.sqrt(between))
    assert found.high - found.change == pytest.approx(far)
    assert found.change - found.low == pytest.approx(far)


@pytest.mark.parametrize("of_draws", [0.0, 0.01, 1.0])
def test_p_is_the_level_of_the_interval_that_ends_at_0(of_draws: float) -> None:
    images = paired_test(study(3, 2, 0.0)[0][1] - study(3, 2, 0.0)[0][0])
    assert images is not None
    both = TwoChances(images, of_draws, 2)
    level = both.p
    low, high = both.interval(level)
    assert low == pytest.approx(0, abs=1e-6) if images.change > 0 else high == pytest.approx(0)
    # Beside draws that are far apart the images' own certainty is nothing.
    assert of_draws < 1 or level > 0.1


@pytest.mark.parametrize("repeats", [2, 3])
def test_of_draws_far_apart_hardly_any_p_is_small(repeats: int) -> None:
    # One number of degrees of freedom for both chances gave 5 and 2 % instead of 0.2.
    small = [
        combined([(before, moved(after, -1)) for before, after in study(seed, repeats, 3, 20)]).p
        for seed in range(1000)
    ]
    assert np.mean(np.array(small) < 0.002) < 0.008


def moved(one: Sampled, by: float) -> Sampled:
    return replace(
        one, value=one.value + by, resampled=one.resampled + by, left_out=one.left_out + by
    )


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
    assert 0.92 < np.mean(inside) <= 0.99
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
    assert (lower.change, lower.low, lower.high) == (-0.25, None, None)
    assert 0 < lower.p < 1e-10  # a sign test of 60 images
    undefined = (flat(0.5), flat(np.nan))
    assert combined([undefined, (flat(0.5), flat(0.5))]).change is None


def test_one_draw_is_refused() -> None:
    with pytest.raises(UserError, match="1 repeats tell nothing"):
        combined(study(0, 1, 0.1))

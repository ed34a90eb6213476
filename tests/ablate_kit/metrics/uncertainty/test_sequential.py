"""Looks at growing data that altogether err as one test would."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import t as student

from ablate_kit.metrics.uncertainty.bootstrap import Sampled
from ablate_kit.metrics.uncertainty.chance import AgainstChance
from ablate_kit.metrics.uncertainty.raced import decided, outcome_of
from ablate_kit.metrics.uncertainty.sequential import Looks, nominal_levels


def test_one_look_is_one_test() -> None:
    assert nominal_levels([1.0], 0.05) == pytest.approx([0.05])


def test_bounds_are_those_of_the_literature() -> None:
    # Jennison and Turnbull 2000, error spending with rho = 1, five looks, two-sided 5 %.
    bounds = [-ndtri(p / 2) for p in nominal_levels([0.2, 0.4, 0.6, 0.8, 1.0], 0.05)]
    assert bounds == pytest.approx([2.576, 2.492, 2.411, 2.339, 2.276], abs=2e-3)


@pytest.mark.parametrize("shares", [[0.5, 1.0], [0.02, 0.05, 0.1, 0.3, 0.6, 1.0]])
def test_all_looks_err_as_often_as_is_spent(shares: list[float]) -> None:
    steps = np.sqrt(np.diff(shares, prepend=0))
    paths = np.cumsum(np.random.default_rng(0).normal(size=(100_000, len(shares))) * steps, axis=1)
    bounds = -ndtri(np.asarray(nominal_levels(shares, 0.05)) / 2)
    crossed = (np.abs(paths) / np.sqrt(shares) > bounds).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_a_wrong_verdict_in_at_most_one_study_of_twenty(correlation: float) -> None:
    # Variants whose change is the margin exactly: whatever is decided about them is wrong.
    studies, variants, looks = 2000, 12, Looks((100, 150, 225, 340, 500), 12)
    rng = np.random.default_rng(1)
    wrong, seen = np.zeros(studies, dtype=bool), 0
    total, squares = (np.zeros((studies, variants)) for _ in range(2))
    for images, level in looks.levels.items():
        shape = (images - seen, studies)
        common, own = rng.standard_t(6, (*shape, 1)), rng.standard_t(6, (*shape, variants))
        values = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
        total, squares, seen = total + values.sum(0), squares + (values**2).sum(0), images
        error = np.sqrt((squares - total**2 / images) / (images - 1) / images)
        bound = student.ppf(1 - level / 2, images - 1)
        wrong |= (np.abs(total / images) > bound * error).any(axis=1)
    assert 0.005 < wrong.mean() <= 0.055
    assert correlation or wrong.mean() > 0.035


def sampled(values: np.ndarray) -> Sampled:
    images = len(values)
    draws = np.random.default_rng(2).multinomial(images, np.full(images, 1 / images), 1000)
    rest = (values.sum() - values) / (images - 1)
    return Sampled(float(values.mean()), draws @ values / images, rest, images, ratio=False)


@pytest.mark.parametrize(
    ("shift", "outcome"),
    [(-0.2, "costs"), (0.2, "gains"), (0.0, "free"), (-0.1, "undecided"), (0.1, "undecided")],
)
def test_what_an_interval_says(shift: float, outcome: str) -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, 200)
    before = sampled(np.zeros(200))
    after = sampled(noise - noise.mean() + shift)
    assert decided(before, after, 0.001, 0.1, last=False) == outcome


def test_an_early_look_needs_many_images_that_do_not_change() -> None:
    def of(images: int, *, last: bool) -> str:
        return outcome_of(AgainstChance(0.0, 0.0, images - 1, np.zeros(5)), 1e-3, 0.01, last=last)

    assert of(100, last=False) == "undecided"
    assert of(1000, last=False) == "free"
    assert of(100, last=True) == "free"
    assert of(3, last=True) == "undecided"

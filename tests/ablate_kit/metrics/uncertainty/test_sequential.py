"""Looks at growing data that altogether err as one test would."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import t as student

from ablate_kit.metrics.uncertainty.bootstrap import Sampled
from ablate_kit.metrics.uncertainty.chance import PairedTest, paired_test
from ablate_kit.metrics.uncertainty.raced import Levels, StepDown, chance_of_verdict, outcome_of
from ablate_kit.metrics.uncertainty.sequential import Looks, nominal_levels


def test_one_look_is_one_test() -> None:
    assert nominal_levels([1.0], 0.05) == pytest.approx([0.05])
    assert str(Looks((24, 48), 1)) == "looks at 24, 48 images, for 1 variant"


def test_bounds_are_those_of_the_literature() -> None:
    # Pocock-like spending of Lan and DeMets (1983), five looks, two-sided 5 %.
    bounds = [-ndtri(p / 2) for p in nominal_levels([0.2, 0.4, 0.6, 0.8, 1.0], 0.05)]
    assert bounds == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=1e-3)


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
    for images in looks.images:
        level = looks.level(images)
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
    test = paired_test(after - before)
    assert outcome_of(test, Levels(0.001, 0.001), 0.1, last=False) == outcome


@pytest.mark.parametrize("change", [-0.02, -0.013, -0.01, -0.006, 0.0, 0.011])
@pytest.mark.parametrize("margin", [0.01, 0.002])
def test_the_chance_of_a_verdict_is_that_of_the_images_to_come(
    change: float, margin: float
) -> None:
    # What is true lies around what was seen; then come the other images, and the last look.
    seen, images, level, spread = 400, 2000, 0.003, 0.06
    test = PairedTest(change, spread / np.sqrt(seen), seen - 1, np.zeros(0))
    rng = np.random.default_rng(4)
    true = rng.normal(change, test.error, 20_000)
    rest = rng.normal(true, spread / np.sqrt(images - seen))
    last = replace(test, error=spread / np.sqrt(images), freedom=images - 1)
    outcomes = [
        outcome_of(replace(last, change=float(one)), Levels(level, level), margin, last=True)
        for one in (seen * change + (images - seen) * rest) / images
    ]
    found = 1 - outcomes.count("undecided") / len(outcomes)
    assert chance_of_verdict(test, seen, images, level, margin) == pytest.approx(found, abs=0.012)
    assert chance_of_verdict(test, images, images, level, margin) == 1


@pytest.mark.parametrize("error", [0.0, 1e-4])
def test_an_early_look_finds_nothing_free_that_its_images_may_not_show(error: float) -> None:
    def of(images: int, change: float = 0.0, *, last: bool) -> str:
        test = PairedTest(change, error, images - 1, np.zeros(5))
        return outcome_of(test, Levels(1e-3, 1e-3), 0.01, last=last)

    # Of 298 images with a probability of more than 5 % none is of 1 % of all, of 299 with less.
    assert [of(images, last=False) for images in (100, 298, 299)] == [*["undecided"] * 2, "free"]
    assert of(100, -0.1, last=False) == "costs"
    assert of(100, last=True) == "free"
    assert of(3, last=True) == "undecided"


def test_only_what_is_decided_and_shares_the_error_leaves_its_share() -> None:
    looks = Looks((100, 200), 3, futility=0.2)
    step_down = StepDown(looks, ["a", "b", "c"])
    assert step_down.levels(100) == Levels(looks.level(100), looks.level(100, 3))
    step_down.settle({"a": "costs", "b": "undecided", "c": None, "control": "free"})
    assert step_down.levels(200) == Levels(looks.level(200), looks.level(200, 2))
    assert step_down.levels(200).verdicts > looks.level(200)


def test_what_goes_on_is_undecided_and_likely_to_be_decided() -> None:
    looks = Looks((100, 200), 1, futility=0.2)
    step_down = StepDown(looks, ["a"])

    def come_to(change: float, images: int) -> str | None:
        test = PairedTest(change, 0.01, images - 1.0, np.zeros(0))
        return step_down.come_to(test, images, margin=0.01)

    assert come_to(-0.03, 100) is None
    assert come_to(-0.01, 100) == "undecided"  # given up
    assert come_to(-0.08, 100) == "costs"
    assert come_to(-0.03, 200) == "undecided"

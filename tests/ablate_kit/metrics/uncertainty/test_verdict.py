"""Verdicts agree with interval and star, and are wrong as rarely as they say."""

import math

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.chance import PairedTest
from ablate_kit.metrics.uncertainty.multiplicity import max_t
from ablate_kit.metrics.uncertainty.raced import Levels, outcome_of
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.metrics.uncertainty.verdict import Verdict, sentence, unseen, verdicts
from ablate_kit.plural import roughly

LEFT = 1e6  # degrees of freedom: a normal distribution


def one_of(change: float, error: float, resampled: np.ndarray | None = None) -> PairedTest:
    drawn = np.random.default_rng(0).normal(0, 1, 500) if resampled is None else resampled
    return PairedTest(change, error, LEFT, drawn)


def judged(tests: list[PairedTest], margin: float, images: int = 100) -> list[Verdict]:
    return verdicts(tests, max_t(tests), images, margin)


@pytest.mark.parametrize(
    ("change", "error", "outcome"),
    [
        (-0.05, 0.01, "costs"),
        (-0.029, 0.01, "undecided"),  # its interval ends at -0.0094
        (-0.031, 0.01, "costs"),  # and at -0.0114
        (0.002, 0.003, "free"),
        (-0.005, 0.003, "undecided"),  # significant or not, it may be -0.0109
        (-0.005, 0.002, "free"),  # significant, and free: -0.0011 to -0.0089
        (0.05, 0.01, "gains"),
        (0.0, 0.0, "free"),
        (-0.3, 0.0, "costs"),
    ],
)
def test_of_one_variant_the_interval_says_it(change: float, error: float, outcome: str) -> None:
    one = one_of(change, error)
    (found,) = judged([one], 0.01)
    assert found.outcome == outcome
    low, high = one.interval()
    sides = {
        "costs": high < -0.01,
        "free": low > -0.01 and high < 0.01,
        "gains": low > 0.01,
        "undecided": low <= -0.01 <= high or low <= 0.01 <= high,
    }
    assert sides[outcome]


def test_a_few_images_that_all_stay_as_they_are_decide_nothing() -> None:
    still = PairedTest(0.0, 0.0, 3.0, np.zeros(50))
    assert judged([still], 0.01, 4)[0].outcome == "undecided"
    # Real parts that cost more than the margin often change nothing on fewer than 20 images.
    for images, free in ((8, 0), (19, 0), (20, 24)):
        found = judged([PairedTest(0.0, 0.0, images - 1.0, np.zeros(50))] * 24, 0.01, images)
        assert sum(one.outcome == "free" for one in found) == free
        if not free:  # that many more decide
            assert {one.more for one in found} == {20 - images}
            assert sentence(found).endswith(f"{20 - images} more images would decide them")
    (unknown,) = verdicts([None], [None], 4)
    assert (unknown.outcome, unknown.p, unknown.more) == ("undecided", None, None)


@pytest.mark.parametrize(("images", "change", "told"), [
    (12, 0.0, "undecided"), (20, 0.0, "free"), (12, -0.05, "costs"), (12, 0.05, "gains"),
])  # fmt: skip
def test_only_to_be_free_takes_20_images(images: int, change: float, told: str) -> None:
    test = PairedTest(change, 0.001, images - 1.0, np.zeros(50))
    found = judged([test], 0.01, images)[0]
    assert found.outcome == told
    assert found.more == (8 if told == "undecided" else None)
    assert outcome_of(test, Levels(0.05, 0.05), 0.01, last=True) == told
    # By a margin as wide as this 12 images show what matters on as many.
    assert judged([test], 0.3, images)[0].outcome == "free"


def studies(
    rng: np.random.Generator, true: np.ndarray, shared: np.ndarray, count: int
) -> list[list[PairedTest]]:
    """Changes with these true values and an error of 1, and a part of their chance in common."""
    made = []
    for _ in range(count):
        own = rng.normal(0, 1, (len(true), 301))
        chance = shared[:, None] * rng.normal(0, 1, 301) + np.sqrt(1 - shared**2)[:, None] * own
        made.append(
            [
                PairedTest(float(value + one[0]), 1.0, LEFT, one[1:])
                for value, one in zip(true, chance, strict=True)
            ]
        )
    return made


def is_wrong(found: Verdict, true: float) -> bool:
    """Whether a verdict says of a change what its true value is not."""
    true_ones = {
        "costs": true <= -found.margin,
        "free": abs(true) <= found.margin,
        "gains": true >= found.margin,
        "undecided": True,
    }
    return not true_ones[found.outcome]


TRUE = {
    "nothing changes, and the margin is small": (np.zeros(20), 0.01),
    "just inside the margin": (np.full(20, -3.0) + 1e-9, 3.0),
    "just beyond it": (np.full(20, -3.0) - 1e-9, 3.0),
    "on both sides of it, close by": (np.linspace(-3.3, -2.7, 20), 3.0),
    "all over": (np.linspace(-9, 5, 20), 3.0),
}
ALIKE = {
    "apart": np.zeros(20),
    "together": np.full(20, 0.95),
    "in two camps": np.repeat([0.95, -0.95], 10),
}


@pytest.mark.parametrize("alike", ALIKE)
@pytest.mark.parametrize("case", TRUE)
def test_any_verdict_is_wrong_in_five_of_a_hundred_studies_at_most(case: str, alike: str) -> None:
    (true, margin), shared = TRUE[case], ALIKE[alike]
    rng = np.random.default_rng([1, list(TRUE).index(case), list(ALIKE).index(alike)])
    count = 600
    wrong = 0
    for tests in studies(rng, true, shared, count):
        found = judged(tests, margin)
        wrong += any(is_wrong(*one) for one in zip(found, true.tolist(), strict=True))
    assert wrong / count <= 0.05 + 2.7 * np.sqrt(0.05 * 0.95 / count)
    if case == "nothing changes, and the margin is small":  # where all of the 5 % is used
        assert wrong / count > 0.02


def test_what_costs_or_gains_has_a_star_and_an_interval_that_bears_it() -> None:
    rng = np.random.default_rng(2)
    errors = rng.uniform(0.2, 3, 20)
    decided = 0
    for tests in studies(rng, rng.uniform(-9, 9, 20), np.full(20, 0.3), 200):
        tests = [
            PairedTest(one.change, float(error), LEFT, one.resampled, float(skew))
            for one, error, skew in zip(tests, errors, rng.uniform(-0.5, 0.5, 20), strict=True)
        ]
        stars = max_t(tests)
        for one, star, found in zip(tests, stars, verdicts(tests, stars, 100, 3.0), strict=True):
            low, high = one.interval()
            if found.outcome in ("costs", "gains"):
                assert star < 0.05
                assert high < -3.0 if found.outcome == "costs" else low > 3.0
            if found.outcome == "free":
                assert low > -3.0
                assert high < 3.0
            decided += found.outcome != "undecided"
    assert decided > 500


def test_of_what_few_images_carry_more_are_needed() -> None:
    drawn = np.random.default_rng(4).normal(0, 1, 500)
    asked = [PairedTest(0.001, 0.006, LEFT, drawn, skew) for skew in (0.0, -0.2, -0.5, -0.9)]
    more = [judged([one], 0.01)[0].more for one in asked]
    assert None not in more
    # On so many more, slight skewness is gone: the nearer end counts. Else it is the farther one.
    assert more[0] == more[1] == more[2] < more[3]


def test_so_many_more_images_decide_four_times_out_of_five() -> None:
    rng = np.random.default_rng(3)
    true, margin = np.array([-0.6, *[-9.0] * 9]), 1.0  # in errors of 100 images
    tests = [one_of(float(one), 1.0, rng.normal(0, 1, 301)) for one in true]
    first, *rest = judged(tests, margin)
    assert first.outcome == "undecided"
    assert {one.outcome for one in rest} == {"costs"}
    assert first.more is not None
    error = np.sqrt(100 / (100 + first.more))
    found = [
        judged([one_of(float(one), error, drawn) for one, drawn in
                zip(true + error * rng.normal(0, 1, 10), rng.normal(0, 1, (10, 301)), strict=True)],
               margin)[0].outcome
        for _ in range(300)
    ]  # fmt: skip
    assert 0.72 < np.mean([one == "free" for one in found]) < 0.88
    assert "gains" not in found


@pytest.mark.parametrize("freedom", [1.3, 4.0, 9.0])
def test_of_few_images_or_unequal_clusters_as_many_more_decide_as_students_t_asks(
    freedom: float,
) -> None:
    """Of 41 clusters, of which one holds half of the images, one more does not decide anything."""
    rng = np.random.default_rng(5)
    images = round(freedom) + 1 if freedom > 2 else 41
    test = PairedTest(-2.9, 1.0, freedom, rng.normal(0, 1, 301))
    (found,) = judged([test], 1.0, images)
    assert found.outcome == "undecided"
    assert found.more is not None
    times = 1 + found.more / images
    error, left = times**-0.5, freedom * times
    seen = -2.9 + error * rng.normal(0, 1, 400)
    errors = error * np.sqrt(rng.chisquare(left, 400) / left)
    decided = [
        judged([PairedTest(float(one), float(by), left, test.resampled)], 1.0)[0].outcome == "costs"
        for one, by in zip(seen, errors, strict=True)
    ]
    assert 0.72 < np.mean(decided) < 0.88


def test_what_lies_at_the_margin_is_not_decided_by_more_images() -> None:
    (close,) = judged([one_of(-0.0101, 0.004)], 0.01)
    assert close.outcome == "undecided"
    assert close.more is None
    assert sentence([close]) == (
        "0 of 1 variants cost more than 0.01 AP; 0 are free; 1 is undecided, too close to the "
        "margin for more of them to help"
    )


def test_the_answer_is_one_sentence() -> None:
    costs, free, gains = (Verdict(one, 0.01, 0.01) for one in ("costs", "free", "gains"))
    more, most, close = (Verdict("undecided", 0.01, 0.3, n) for n in (37, 398, None))
    assert sentence([costs] * 3 + [free] * 18 + [more, more, most], "heads") == (
        "3 of 24 heads cost more than 0.01 AP; 18 are free; 3 are undecided: about 400 more images "
        "would decide them"
    )
    assert sentence([costs, gains, free, more, close]) == (
        "1 of 5 variants costs more than 0.01 AP; 1 gains more than 0.01 AP; 1 is free; 2 are "
        "undecided: about 37 more images would decide 1, 1 lies close to the margin"
    )
    assert sentence([costs, more], unit="videos") == (
        "1 of 2 variants costs more than 0.01 AP; 0 are free; 1 is undecided: about 37 more videos "
        "would decide it"
    )
    assert sentence([costs, Verdict("undecided", 0.01)]).endswith("0 are free; 1 is undecided")
    assert sentence([]) == ""
    assert [roughly(one) for one in (3, 37, 123, 4010)] == [3, 37, 130, 4100]


def test_what_images_may_hold_none_of_is_the_rule_of_three() -> None:
    assert [round(unseen(images), 4) for images in (1, 31, 100, 300)] == [
        0.95,
        0.0921,
        0.0295,
        0.0099,
    ]
    assert (1 - unseen(31)) ** 31 == pytest.approx(0.05)


def test_false_discoveries_may_be_asked_for() -> None:
    rng = np.random.default_rng(4)
    tests = [one_of(-3.6 + i / 10, 1.0, rng.normal(0, 1, 301)) for i in range(12)]
    strict = verdicts(tests, max_t(tests), 100, 0.5)
    loose = verdicts(tests, [one.p for one in tests], 100, 0.5, "fdr")
    count = [sum(one.outcome == "costs" for one in found) for found in (strict, loose)]
    assert count[0] < count[1]


@pytest.mark.parametrize("margin", [-0.01, 1.01, math.nan, math.inf])
def test_margins_that_would_make_verdicts_false_are_refused(margin: float) -> None:
    with pytest.raises(UserError, match=r"the margin is .*; expected 0 to 1"):
        Statistics(margin=margin)


@pytest.mark.parametrize("resamples", [-1, 1_000_001])
def test_resamples_that_nothing_can_hold_are_refused(resamples: int) -> None:
    with pytest.raises(UserError, match=r"resamples are .*; expected 0 .* to 1,000,000"):
        Statistics(resamples=resamples)

"""Several checkpoints on the same images: their mean's interval, and whether they differ."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.replicates import Replicated, replicated
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict

IMAGES, RESAMPLES = 40, 2000


def sampled(parts: Floats) -> Sampled:
    """The mean of a number per image, on samples of the images."""
    drawn = draws(len(parts), RESAMPLES, 0, room=len(parts))
    drawn[:, 1 + RESAMPLES :] = left_out(len(parts), len(parts), 0)
    means = parts @ drawn / drawn.sum(axis=0)
    end = 1 + RESAMPLES
    return Sampled(float(means[0]), means[1:end], means[end:], len(parts), ratio=True)


def change(outcome: Outcome | None = None) -> Change:
    verdict = Verdict(outcome, 0.01) if outcome else None
    return Change(*[None] * 8, verdict)


def of(parts: Sequence[Floats], *outcomes: Outcome | None) -> Replicated:
    own = [change(one) for one in outcomes or [None] * len(parts)]
    return replicated([own], [[sampled(one) for one in parts]])[0]


def parts(seed: int, checkpoints: int, own: float = 0.0, alone: float = 0.1) -> list[Floats]:
    generator = np.random.Generator(np.random.Philox(seed))
    shared = generator.normal(-0.2, 0.1, IMAGES)
    return [
        shared + generator.normal(0, alone, IMAGES) + own * number for number in range(checkpoints)
    ]


def test_the_interval_is_both_of_its_chances_at_right_angles() -> None:
    given = parts(1, 4, own=0.05)
    values = np.array([one.mean() for one in given])
    found = of(given)
    images = paired_test(sampled(np.mean(given, axis=0)))
    assert images is not None
    assert found.low is not None
    assert found.high is not None
    assert found.mean == pytest.approx(values.mean())
    assert found.deviation == pytest.approx(values.std(ddof=1))
    seeds = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    low, high = images.interval()
    assert found.low == pytest.approx(values.mean() - np.hypot(seeds, values.mean() - low))
    assert found.high == pytest.approx(values.mean() + np.hypot(seeds, high - values.mean()))


def test_checkpoints_that_are_alike_have_the_images_interval_and_do_not_differ() -> None:
    one = parts(2, 1)[0]
    found, images = of([one, one, one]), paired_test(sampled(one))
    assert images is not None
    assert (found.low, found.high) == pytest.approx(images.interval())
    assert found.p_differ == 1
    assert found.deviation == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("images", "at", "outcomes", "expected"),
    [
        (40, -0.1, ["costs"] * 3, "costs"),
        (40, 0.1, ["gains"] * 3, "gains"),
        (40, 0.0, ["free"] * 3, "free"),
        (12, 0.0, ["undecided"] * 3, "undecided"),  # 12 of 40 images show an object
        (40, 0.0, [None] * 3, None),  # a checkpoint that finds nothing bears no verdict
        (40, -0.1, ["costs"] * 2, None),
    ],
)
def test_other_checkpoints_are_judged_by_the_images_that_tell(
    images: int, at: float, outcomes: list[Outcome | None], expected: Outcome | None
) -> None:
    """Of 40 images, 12 of which showed an object, a cut was said to be free in others like these,
    and undecided in each of these."""
    rng = np.random.default_rng(1)
    given = [at + rng.normal(0, 0.003, IMAGES) for _ in outcomes]
    drawn = [replace(sampled(one), images=images, drawn=IMAGES) for one in given]
    (found,) = replicated([[change(one) for one in outcomes]], [drawn])
    assert found.of_like == expected


def test_two_checkpoints_have_no_interval() -> None:
    found = of(parts(3, 2))
    assert found.low is None
    assert found.high is None
    assert found.mean is not None
    assert found.p_differ is not None


def test_two_checkpoints_differ_as_in_a_paired_t_test() -> None:
    first, second = parts(4, 2, own=0.06)
    paired = stats.ttest_rel(first, second).pvalue
    assert of([first, second]).p_differ == pytest.approx(paired, rel=0.25)
    assert of(parts(4, 2)).p_differ == pytest.approx(stats.ttest_rel(*parts(4, 2)).pvalue, rel=0.25)


def test_several_differ_as_in_hotelling() -> None:
    given = parts(5, 4, own=0.01)
    apart = np.stack(given[1:]) - given[0]
    mean = apart.mean(axis=1)
    t2 = IMAGES * mean @ np.linalg.solve(np.cov(apart), mean)
    p = stats.f.sf(t2 * (IMAGES - 3) / (3 * (IMAGES - 1)), 3, IMAGES - 3)
    # As far as skewness that so few images may hide leaves it.
    assert p < of(given).p_differ < 3 * p


def test_a_checkpoint_of_which_some_images_lose_much_differs_falsely_as_seldom_as_others() -> None:
    """Of 24 cuts on 20 images, which cost all checkpoints the same, any did in 29 % of studies."""
    rng = np.random.default_rng(15)
    drawn, rest = draws(20, 500, 0)[:, 1:] / 20, left_out(20, 20, 0) / 19
    own, false = [change()] * 3, []
    for _ in range(1200):
        given = [1 - rng.exponential(1, 20), *rng.normal(0, 0.2, (2, 20))]
        told = [Sampled(float(one.mean()), one @ drawn, one @ rest, 20, False) for one in given]
        false.append((replicated([own], [told])[0].p_differ or 1) < 0.05 / 24)
    assert 1 - (1 - np.mean(false)) ** 24 < 0.15


def test_p_of_several_cuts_is_adjusted() -> None:
    given = [[sampled(one) for one in parts(seed, 2, own=0.06)] for seed in (4, 6)]
    alone = [of(parts(seed, 2, own=0.06)).p_differ for seed in (4, 6)]
    both = [one.p_differ for one in replicated([[change()] * 2] * 2, given)]
    assert min(alone) * 2 == pytest.approx(min(both))


def test_a_verdict_is_that_of_all_or_none() -> None:
    alike = parts(7, 3)
    assert of(alike, "costs", "costs", "costs").outcome == "costs"
    assert of(alike, "free", "free", "free").outcome == "free"
    assert of(alike, "costs", "costs", "undecided").outcome == "undecided"
    assert of(alike, "costs", "costs", "free").outcome == "undecided"
    assert of(parts(7, 3, own=0.3), "costs", "costs", "free").outcome == "differ"
    assert of(alike, "costs", "costs", None).outcome is None


def test_what_all_say_of_several_cuts_is_adjusted_for_them() -> None:
    """Each one's verdicts are, but their errors add up where each has other cuts close by."""
    noise = np.random.Generator(np.random.Philox(10)).normal(0, 0.1, IMAGES)
    error = noise.std(ddof=1) / np.sqrt(IMAGES)
    close = [noise - noise.mean() - 0.01 - 2.3 * error] * 3  # p of about 0.03 against the margin
    assert of(close, *["costs"] * 3).outcome == "costs"
    changes = [[change("costs")] * 3] * 2
    drawn = [[sampled(one) for one in close]] * 2
    assert {one.outcome for one in replicated(changes, drawn)} == {"undecided"}


def test_what_is_not_defined_says_nothing() -> None:
    nothing = np.full(IMAGES, np.nan)
    found = of([nothing, parts(8, 1)[0], parts(9, 1)[0]])
    assert (found.mean, found.low, found.deviation, found.p_differ) == (None,) * 4

"""Interval, p-value and star are one test, and hold what they say in simulation."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import chi2
from scipy.stats import skew as skewness
from scipy.stats import t as student

from ablate_kit.errors import UserError
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty import raced
from ablate_kit.metrics.uncertainty.bootstrap import Sampled, Samples, draws, left_out
from ablate_kit.metrics.uncertainty.chance import PairedTest, _scores, paired_test
from ablate_kit.metrics.uncertainty.multiplicity import holm, max_t
from ablate_kit.metrics.uncertainty.raced import Levels
from ablate_kit.metrics.uncertainty.significance import (
    Change,
    changes,
    class_changes,
    interactions,
    moves_apart,
)

drawn = cache(draws)


def mean_of(values: np.ndarray, resamples: int = 200, seed: int = 0) -> Sampled:
    """The mean over images as a metric, on samples of the images."""
    images = len(values)
    weights = drawn(images, resamples, seed) / images
    rest = left_out(images, images, seed) / max(images - 1, 1)
    return Sampled(float(values.mean()), (values @ weights)[1:], values @ rest, images, ratio=True)


def samples_of(values: np.ndarray, **settings: int) -> Samples:
    sampled = mean_of(values, **settings)
    return Samples(dict.fromkeys(KEYS, sampled), (sampled,))


def test_of_a_mean_the_error_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(0, 1, 40)
    found = paired_test(mean_of(values, resamples=4000))
    assert found is not None
    # The jackknife's is exactly that of a mean; the bootstrap's has the noise of its draws.
    assert found.error == pytest.approx(values.std(ddof=1) / np.sqrt(40), rel=0.02)
    # Of many images p is Student's; few may hide some skewness toward either side.
    for freedom, hidden in ((1e9, 1.0), (39.0, 1.06)):
        plain = replace(found, skew=0.0, freedom=freedom)
        by_t = 2 * student.sf(abs(values.mean()) / found.error, freedom)
        assert by_t * hidden**0.5 - 1e-9 <= plain.p <= by_t * hidden + 1e-9
        below, above = plain.reach()
        assert below == above >= student.ppf(0.975, freedom) - 1e-6


def test_few_images_that_make_the_change_leave_few_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    even, rare = rng.normal(1, 1, 400), np.where(np.arange(400) < 8, rng.normal(1, 1, 400), 0)
    wide, narrow = paired_test(mean_of(even)), paired_test(mean_of(rare))
    assert wide is not None
    assert narrow is not None
    assert narrow.freedom < 20 < 150 < wide.freedom <= 399


def test_a_change_says_whether_it_was_adjusted_by_holm() -> None:
    rng = np.random.default_rng(1)
    even, rare = rng.normal(0.1, 1, 400), np.where(np.arange(400) < 8, rng.normal(1, 1, 400), 0)
    found = changes(samples_of(np.zeros(400)), [samples_of(even), samples_of(rare)])
    wide, narrow = (one["AP"] for one in found)
    assert narrow.few
    assert narrow.p_adjusted == 2 * (narrow.p or 0)
    assert not wide.few


@pytest.mark.parametrize("skew", [-0.9, -0.2, -1e-9, 0.0, 0.05, 0.6])
@pytest.mark.parametrize("level", [0.05, 0.001])
def test_an_interval_ends_where_p_is_its_level(skew: float, level: float) -> None:
    rng = np.random.default_rng(11)
    for _ in range(20):
        freedom = float(rng.integers(2, 300))
        one = PairedTest(rng.normal(), rng.uniform(0.1, 3), freedom, np.zeros(2), skew)
        low, high = one.interval(level)
        for end in (low, high):
            assert replace(one, change=one.change - end).p == pytest.approx(level, rel=1e-6)
        # Never shorter than Student's on either side; longer where losses, or gains, are rare.
        half = student.ppf(1 - level / 2, freedom) * one.error
        assert one.change - low >= half * (1 - 1e-9)
        assert high - one.change >= half * (1 - 1e-9)
        assert abs(skew) < 0.1 or (one.change - low > high - one.change) == (skew < 0)


@pytest.mark.parametrize("lost", [3, 5, 10, 40])
def test_images_that_all_lose_the_same_are_counted_with_the_exact_interval(lost: int) -> None:
    images = 100_000
    one = PairedTest(-lost / images, np.sqrt(lost) / images, 1e9, np.zeros(2), -1 / np.sqrt(lost))
    low, high = one.interval()
    exact = chi2.ppf(0.975, 2 * (lost + 1)) / 2  # Garwood (1936)
    assert -low * images == pytest.approx(exact, rel=0.005)
    assert high == pytest.approx(one.change + 1.959964 * one.error, rel=1e-4)


def losses(rng: np.random.Generator, images: int) -> np.ndarray:
    """One image in twenty loses much, the others gain a little; 0 on average."""
    return np.where(rng.random(images) < 0.05, -1.0, 0.05 / 0.95) + rng.normal(0, 0.02, images)


def test_few_images_that_lose_much_and_are_missed_make_no_gain_significant() -> None:
    rng = np.random.default_rng(12)
    level, by_t, found = 0.05 / 24, 0, 0
    for _ in range(6000):
        values = losses(rng, 206)
        away = values - values.mean()
        total = (away**2).sum()
        error = np.sqrt(total / 205 / 206)
        one = PairedTest(values.mean(), error, 205.0, np.zeros(2), (away**3).sum() / total**1.5)
        by_t += replace(one, skew=0.0).p < level
        found += one.p < level
    assert by_t > 4 * level * 6000  # Student's t alone, which is why skewness counts
    assert found < level * 6000 + 2.7 * np.sqrt(level * 6000)


def test_skewness_is_that_of_the_images_beyond_what_few_of_them_show_by_chance() -> None:
    rng = np.random.default_rng(13)
    values = losses(rng, 206)
    told = mean_of(values, resamples=4000)
    found = paired_test(told)
    assert found is not None
    assert found.skew < -0.2
    # That of a sum over images is theirs; the noise of the resamples is what is taken off.
    noise = 6 / 4000
    assert found.skew**2 + noise == pytest.approx(skewness(told.resampled) ** 2, rel=3e-3)
    expected = skewness(values) / np.sqrt(206)
    assert skewness(told.resampled) == pytest.approx(expected, abs=3 * noise**0.5)
    even = paired_test(mean_of(np.array([0.0, 1.0])))
    assert even is not None
    assert even.skew == pytest.approx(0, abs=0.05)
    below, above = even.reach()  # two images hide nothing: they are always symmetric
    assert below == pytest.approx(student.ppf(0.975, 1), rel=0.1)
    assert above == pytest.approx(student.ppf(0.975, 1), rel=0.1)


@pytest.mark.parametrize(("images", "false"), [(20, 0.075), (40, 0.06)])
def test_few_images_of_which_some_lose_much_have_few_false_stars(images: int, false: float) -> None:
    """By Student's t 30 and 22 % of studies of 24 such variants have one."""
    rng = np.random.default_rng([14, images])
    count = 20_000
    drawn = 1 - rng.exponential(1, (count, images))
    away = drawn - drawn.mean(axis=1, keepdims=True)
    total = (away**2).sum(axis=1)
    found = [
        PairedTest(float(value), float(error), images - 1.0, np.zeros(2), float(skew)).p
        for value, error, skew in zip(
            drawn.mean(axis=1),
            np.sqrt(total / (images - 1) / images),
            (away**3).sum(axis=1) / total**1.5,
            strict=True,
        )
    ]
    alone = np.mean(np.array(found) < 0.05)
    assert 0.03 < alone < 0.05
    any_of_24 = 1 - (1 - np.mean(np.array(found) < 0.05 / 24)) ** 24
    assert any_of_24 < false


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.3, 0.4])
def test_interval_and_p_never_disagree(shift: float) -> None:
    rng = np.random.default_rng(2)
    for seed in range(20):
        before = rng.normal(0, 1, 40)
        after = before + rng.normal(shift, 1, 40)
        one, other = samples_of(before, seed=seed), samples_of(after, seed=seed)
        (found,) = changes(one, [other])
        (of_class,) = class_changes(one, other)
        for change in (*found.values(), of_class):
            outside = change.low > 0 or change.high < 0
            assert outside == (change.p < 0.05)
            # Of one variant alone there is nothing to adjust for, so that the star says the same.
            assert change.p_adjusted == change.p
            assert change.significant == outside


def test_a_star_among_many_is_never_on_an_interval_that_holds_zero() -> None:
    rng = np.random.default_rng(3)
    before = rng.normal(0, 1, 60)
    others = [before + rng.normal(shift, 1, 60) for shift in np.linspace(0, 0.8, 30)]
    found = changes(samples_of(before), [samples_of(one) for one in others])
    assert 5 < sum(one["AP"].significant for one in found) < 30
    for one in found:
        change = one["AP"]
        assert change.p_adjusted >= change.p
        assert not change.significant or change.low > 0 or change.high < 0


def test_a_change_of_which_one_image_decides_takes_no_star_from_the_others() -> None:
    """Its resamples are skewed to one side, and the data without an image to the other."""
    rng = np.random.default_rng(7)
    before = rng.normal(1, 1, 80)
    clear = samples_of(before - rng.normal(1, 1, 80), resamples=2000)
    odd = mean_of(before + np.where(np.arange(80) == 3, 8, 0), resamples=2000)
    baseline = mean_of(before, resamples=2000)
    odd = replace(odd, resampled=baseline.resampled - (odd - baseline).resampled)
    all_odd = Samples(dict.fromkeys(KEYS, odd), (odd,))
    found = changes(samples_of(before, resamples=2000), [clear, all_odd])
    assert found[0]["AP"].p < 1e-8
    assert found[0]["AP"].p_adjusted < 1e-3
    assert not found[1]["AP"].significant


def test_no_change_is_never_significant() -> None:
    samples = samples_of(np.random.default_rng(4).random(50))
    (same,) = changes(samples, [samples])
    assert same["AP50"] == Change(same["AP50"].value, 0.0, None, None, 0.0, 1.0, 1.0, None)
    assert not same["AP"].significant
    assert same["AP"].to_dict()["verdict"] == "free"


def test_against_a_baseline_that_finds_next_to_nothing_there_is_no_verdict() -> None:
    rng = np.random.default_rng(11)
    low, high = (samples_of(rng.random(50) / part) for part in (100, 2))
    assert changes(low, [low])[0]["AP"].verdict is None
    assert changes(high, [high])[0]["AP"].verdict is not None
    # All that there is is within such a margin: whatever is cut would be free.
    assert changes(high, [high], margin=0.5)[0]["AP"].verdict is None


def test_what_one_image_tells_has_no_interval() -> None:
    one, other = (samples_of(np.array([value])) for value in (0.9, 0.1))
    (found,) = changes(one, [other])
    assert found["AP"].change == pytest.approx(-0.8)
    assert found["AP"].p is found["AP"].low is found["AP"].p_adjusted is None
    assert not found["AP"].significant
    # Nor do images that all show the same, as no change at all: how far others would is not known.
    one = samples_of(np.full(20, 0.9))
    assert (changes(one, [one])[0]["AP"].change, changes(one, [one])[0]["AP"].low) == (0.0, None)
    # Nor do two or three that all change alike.
    one, other = (samples_of(np.full(3, value)) for value in (0.9, 0.1))
    assert changes(one, [other])[0]["AP"].p is None
    one, other = (samples_of(np.full(20, value)) for value in (0.9, 0.1))
    assert changes(one, [other])[0]["AP"].significant
    # Of so many variants that all images change alike, six images are too few: a sign test.
    one, other = (samples_of(np.full(6, value)) for value in (0.9, 0.1))
    assert changes(one, [other])[0]["AP"].p == 2 / 2**6
    assert not changes(one, [other] * 2)[0]["AP"].significant


def test_what_is_not_defined_without_an_image_has_no_interval() -> None:
    shown = mean_of(np.random.default_rng(5).random(30))
    rest = shown.left_out.copy()
    rest[3] = np.nan  # the class is in this image only
    once = Sampled(shown.value, shown.resampled, rest, 1, ratio=False)
    assert paired_test(once) is None
    assert class_changes(Samples({}, (once,)), Samples({}, (once,)))[0].p is None


def test_a_detectable_change_is_found_four_times_out_of_five() -> None:
    rng = np.random.default_rng(6)
    # Of twelve variants alike, one differs by what is said to be detectable.
    found, sizes = [], []
    for _ in range(200):
        base = rng.normal(0, 1, 80)
        size = 0.443  # the median of what is said below
        noise = [base + rng.normal(size * (i == 0), 1, 80) for i in range(12)]
        before, after = (
            Samples({}, tuple(mean_of(one) for one in of)) for of in ([base] * 12, noise)
        )
        first, *_ = class_changes(before, after)
        sizes.append(first.detectable)
        found.append(first.significant)
    assert np.median(sizes) == pytest.approx(size, abs=0.01)
    assert 0.7 < np.mean(found) < 0.9


@pytest.mark.parametrize("freedom", [1.5, 3.0, 19.0])
@pytest.mark.parametrize("skew", [-4.0, 0.9, 4.0])
def test_one_image_at_least_carries_a_change(freedom: float, skew: float) -> None:
    """A count of one may be one of 5.6; Student's t of that in few degrees of freedom reached over
    all changes there are."""
    one = PairedTest(-1e-4, 5e-4, freedom, np.zeros(2), skew)
    assert max(one.reach()) < max(9.0, 1.01 * student.ppf(0.975, freedom))
    for end in one.interval():
        at = PairedTest(one.change - end, one.error, freedom, one.resampled, skew)
        assert at.p == pytest.approx(0.05)


def null_tests(rng: np.random.Generator, variants: int, shared: float) -> list[PairedTest]:
    """Changes that are all chance, some of it shared by all variants."""
    common = rng.normal(0, 1, 301)
    tests = []
    for _ in range(variants):
        every = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(0, 1, 301)
        tests.append(PairedTest(float(every[0]), 1.0, 1e6, _scores(every[1:])))
    return tests


@pytest.mark.parametrize(("variants", "studies"), [(4, 1500), (20, 1500), (100, 600)])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_stars_are_false_in_five_of_a_hundred_studies_however_variants_move_together(
    shared: float, variants: int, studies: int
) -> None:
    """Also where there are so many that the farthest resample is not far enough."""
    rng = np.random.default_rng([7, int(10 * shared), variants])
    made = [null_tests(rng, variants, shared) for _ in range(studies)]
    false = np.mean([min(max_t(tests)) < 0.05 for tests in made])
    bonferroni = np.mean([variants * min(one.p for one in tests) < 0.05 for tests in made])
    chance = 2.7 * (0.05 * 0.95 / studies) ** 0.5
    assert 0.05 - 2 * chance < false < 0.05 + chance
    # Where variants move together, Bonferroni and Holm give stars too rarely.
    assert shared == 0 or bonferroni < 0.6 * false


@pytest.mark.parametrize("images", [2, 3, 6])
def test_stars_are_false_in_five_of_a_hundred_studies_of_few_images(images: int) -> None:
    """Resamples of two images take three values: by them alone 67 % of such studies had one."""
    rng = np.random.default_rng([9, images])
    false = []
    for _ in range(600):
        found = [paired_test(mean_of(said)) for said in rng.normal(0, 1, (24, images))]
        tests = [one for one in found if one is not None]
        assert len(tests) == 24
        false.append(min(max_t(tests)) < 0.05)
    assert np.mean(false) < 0.074  # 5 % and 2.7 standard errors of 600 studies


def test_step_down_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(8)
    tests = null_tests(rng, 6, 0.5)
    tests[2] = PairedTest(4.0, 1.0, 1e6, tests[2].resampled)
    adjusted = max_t(tests)
    order = sorted(range(6), key=lambda i: -abs(tests[i].change))
    highest = 0.0
    for step, i in enumerate(order):
        left = [np.abs(tests[j].resampled) for j in order[step:]]
        largest = [max(column) for column in zip(*left, strict=True)]
        away = min(abs(tests[i].change), max(largest))
        seen = (sum(one >= away for one in largest) + 1) / 301
        if abs(tests[i].change) > away:
            seen = min(seen, len(left) * tests[i].p)
        p = max(tests[i].p, seen) if len(left) > 1 else tests[i].p
        highest = max(highest, min(p, 1.0))
        assert adjusted[i] == pytest.approx(highest, abs=1e-6)
    assert max_t([]) == []


def test_stars_by_the_false_discovery_rate_are_more() -> None:
    rng = np.random.default_rng(9)
    before = rng.normal(0, 1, 60)
    others = [samples_of(before + rng.normal(s, 1, 60)) for s in np.linspace(0, 0.8, 30)]
    by_family, by_rate = (
        sum(one["AP"].significant for one in changes(samples_of(before), others, adjust=adjust))
        for adjust in ("family", "fdr")
    )
    assert by_family < by_rate
    with pytest.raises(UserError, match='cannot adjust by "none"; expected family or fdr'):
        changes(samples_of(before), others, adjust="none")


def test_holm_is_the_published_example() -> None:
    # Holm's procedure as R's p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm") computes it.
    assert holm([0.03, 0.01, None, 0.04, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])


def test_without_labels_nothing_is_above_the_unmodified_model_and_no_share_beyond_its_ends() -> (
    None
):
    """Of 12 images the table said that 0.64 to 1.01 of the boxes were lost, and -0.08 to 0.80 of
    them as many new ones."""
    rng = np.random.default_rng(0)
    ones, zeros = np.ones(6), np.zeros(6)
    fallen = {"AP": 0.9, "AP50": 0.99, "f1_calibrated": 0.9, "giou_penalized": 0.9}
    whole = {key: mean_of(ones) for key in (*fallen, "matched_iou")}
    none = {key: mean_of(zeros) for key in ("class_flips", "lost_boxes", "new_boxes")}
    shares = {"class_flips": 0.1, "lost_boxes": 0.8, "new_boxes": 0.1, "matched_iou": 0.95}
    after = {
        key: mean_of(np.clip(value + rng.normal(0, 0.4, 6), 0, 1))
        for key, value in (fallen | shares).items()
    }
    own = Samples(whole | none, (mean_of(ones),))
    (found,) = changes(own, [Samples(after, (after["AP"],))])
    found["class"] = class_changes(own, Samples(after, (after["AP"],)))[0]
    for key, one in found.items():
        least, most = (0, 1) if key in none else (-2, 0)
        assert least <= one.low <= one.change <= one.high <= most, key
    labelled = Samples({key: whole[key] for key in fallen}, ())
    (found,) = changes(labelled, [Samples({key: after[key] for key in fallen}, ())])
    assert any(one.high > 0 for one in found.values())


def test_an_interaction_ends_where_the_metrics_do() -> None:
    """Of a pair from -1 to 2 without labels, where no cut is better than the unmodified model."""
    rng = np.random.default_rng(1)
    three = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    own = {"AP": 1.0, "giou_penalized": 1.0, "matched_iou": 1.0, "lost_boxes": 0.0}
    ends = {
        "AP": (-1, 2), "giou_penalized": (-2, 4), "matched_iou": (-1, 2), "lost_boxes": (-2, 1)
    }  # fmt: skip
    baseline = Samples({key: mean_of(np.full(3, value)) for key, value in own.items()}, ())

    def drawn() -> Samples:
        return Samples({key: mean_of(three[rng.integers(3)]) for key in own}, ())

    labelled = Samples({"AP": mean_of(three[0])}, ())
    cut = False
    for _ in range(20):
        joint, pair = drawn(), [drawn(), drawn()]
        (found,) = interactions(baseline, [joint], [pair])
        for key, (least, most) in ends.items():
            one = found[key]
            if one.low is not None and one.high is not None:
                assert least <= one.low <= one.change <= one.high <= most, key
                cut = cut or one.low == least
        ap = interactions(labelled, [joint], [pair])[0]["AP"]
        assert ap.low is None or -2 <= ap.low <= ap.change <= ap.high <= 2
    assert cut


@pytest.mark.parametrize(
    ("ap", "giou", "apart"), [(-1.0, 1.0, True), (1.0, -1.0, True), (-1.0, -1.0, False),
                              (-1.0, 0.0, False)]
)  # fmt: skip
def test_giou_that_rises_while_ap_falls_is_seen(ap: float, giou: float, apart: bool) -> None:
    rng = np.random.default_rng(10)
    before = rng.normal(0, 1, 60)
    moved = {
        key: mean_of(before + {"AP": ap, "giou_penalized": giou}.get(key, 0.0) + noise)
        for key in KEYS
        for noise in [rng.normal(0, 0.5, 60)]
    }
    (found,) = changes(samples_of(before), [Samples(moved, ())])
    assert moves_apart(found) == apart


def test_no_interval_reaches_farther_than_the_metric_can() -> None:
    """Student's t of a class on three images does: from -3.6 to +3.3 of a change of -0.15."""
    before, after = samples_of(np.zeros(3)), samples_of(np.array([0.0, 0.9, -0.6]))
    (change,) = class_changes(before, after)
    assert (change.low, change.high) == (-1.0, 1.0)
    levels = Levels(0.05, 0.01)
    (change,) = raced.class_changes(before, after, levels)
    assert (change.low, change.high) == (-1.0, 1.0)
    of_race = raced.raced_changes(before, after, levels, 0.01, last=True, tested=True)
    for whole in (*changes(before, [after]), of_race):
        for metric, one in whole.items():
            farthest = 2.0 if metric == "giou_penalized" else 1.0
            assert one.low is None or -farthest <= one.low <= one.high <= farthest, metric

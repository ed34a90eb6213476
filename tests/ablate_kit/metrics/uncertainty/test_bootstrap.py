"""The bootstrap is what evaluating data sets with repeated images gives."""

import importlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import skew as skewness

from ablate_kit.errors import UserError
from ablate_kit.metrics.calibration import fold_of
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.parallel import in_threads
from ablate_kit.metrics.uncertainty import resampled_ap
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.matched import Matched
from ablate_kit.metrics.uncertainty.resampled_ap import ResampledPrecision
from tests.ablate_kit.made_up import truth_of

IMAGES, CLASSES = 30, 4


def truth_and_detections(noise: float, seed: int = 0) -> tuple[GroundTruth, Detections]:
    """Objects, some of them crowds, and shaken copies of them among false positives."""
    layout, shake = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    counts = layout.integers(0, 6, IMAGES)
    image = np.repeat(np.arange(IMAGES), counts)
    n = len(image)
    corner, size = layout.uniform(0, 60, (n, 2)), layout.uniform(10, 40, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    labels = layout.integers(0, CLASSES - 1, n)  # the last class has no object
    truth = truth_of(
        image, boxes, labels, images=IMAGES, classes="abcd",
        image_ids=np.arange(IMAGES) * 7 + 3, ignore=layout.random(n) < 0.1,
    )  # fmt: skip
    found = boxes + shake.normal(0, noise, boxes.shape)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    false = 3 * IMAGES
    anywhere = shake.uniform(0, 60, (false, 2))
    detections = Detections(
        image=np.concatenate([image, shake.integers(0, IMAGES, false)]),
        boxes=np.concatenate([found, np.concatenate([anywhere, anywhere + 25], axis=1)]),
        scores=np.concatenate([shake.uniform(0.2, 1, n), shake.uniform(0, 0.7, false)]),
        labels=np.concatenate([labels, shake.integers(0, CLASSES, false)]),
    )
    return truth, detections


def repeated(
    truth: GroundTruth, detections: Detections, weights: np.ndarray
) -> tuple[GroundTruth, Detections]:
    """The data set with image i in it ``weights[i]`` times."""
    source = np.repeat(np.arange(IMAGES), weights)
    objects = [np.flatnonzero(truth.image == i) for i in source]
    boxes = [np.flatnonzero(detections.image == i) for i in source]
    chosen, found = np.concatenate(objects), np.concatenate(boxes)
    return (
        GroundTruth(
            image_ids=np.arange(len(source)),
            widths=truth.widths[source],
            heights=truth.heights[source],
            image=np.repeat(np.arange(len(source)), [len(one) for one in objects]),
            boxes=truth.boxes[chosen],
            labels=truth.labels[chosen],
            ignore=truth.ignore[chosen],
            areas=truth.areas[chosen],
            ids=np.arange(len(chosen)) + 1,
            classes=truth.classes,
            category_ids=truth.category_ids,
        ),
        replace(
            detections.rows(found),
            image=np.repeat(np.arange(len(source)), [len(one) for one in boxes]),
        ),
    )


def columns(sampled: Sampled) -> np.ndarray:
    """One number for each column of weights."""
    return np.concatenate([[sampled.value], sampled.resampled, sampled.left_out])


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_every_sample_is_the_evaluation_of_repeated_images(noise: float) -> None:
    truth, detections = truth_and_detections(noise)
    bootstrap = Bootstrap(truth, resamples=25, seed=1)
    samples = bootstrap.samples(detections, 0.4)
    assert bootstrap.weights.shape == (IMAGES, 1 + 25 + IMAGES)
    for i, weights in enumerate(bootstrap.weights.T):
        numbers = evaluate(*repeated(truth, detections, weights), score_threshold=0.4)
        for metric in KEYS:
            expected = numbers.overall[metric]
            assert columns(samples.overall[metric])[i] == pytest.approx(expected, abs=1e-12)
        classes = [truth.classes[label] for label in bootstrap.classes]
        assert 0 < len(classes) < len(truth.classes)
        for name, of_class in zip(classes, samples.ap_per_class, strict=True):
            expected, value = numbers.per_class[name]["AP"], columns(of_class)[i]
            assert (expected is None) == np.isnan(value)
            assert expected is None or value == pytest.approx(expected, abs=1e-12)


def test_equal_scores_count_in_the_order_of_the_images_ids() -> None:
    """A file may list its images in any order, as COCO's own does; AP goes by their ids. So the
    change of AP beside two APs is their difference."""
    truth, detections = truth_and_detections(4.0)
    ids = np.random.default_rng(5).permutation(IMAGES) + 1
    truth = replace(truth, image_ids=ids)
    detections = replace(detections, scores=np.round(detections.scores, 1))
    expected = evaluate(truth, detections)
    listed = evaluate(replace(truth, image_ids=np.arange(IMAGES)), detections)
    assert expected.overall["AP"] != pytest.approx(listed.overall["AP"], abs=1e-3)
    bootstrap = Bootstrap(truth, resamples=2)
    samples = bootstrap.samples(detections, 0.5)
    for metric in ("AP", "AP50"):
        assert samples.overall[metric].value == pytest.approx(expected.overall[metric], abs=1e-12)
    for label, of_class in zip(bootstrap.classes, samples.ap_per_class, strict=True):
        known = expected.per_class[truth.classes[label]]["AP"]
        assert of_class.value == pytest.approx(known, abs=1e-12)


def test_each_image_keeps_its_threshold_in_every_sample() -> None:
    truth, detections = truth_and_detections(2.0)
    baseline = evaluate(truth, detections)
    calibration = baseline.thresholds.calibration
    assert len(set(calibration.folds)) > 1
    fold = fold_of(truth, len(calibration.folds))
    # The same as one threshold for all, once each image's scores are moved by its own.
    own = np.asarray(calibration.folds)[fold][detections.image]
    moved = Detections(
        detections.image, detections.boxes, detections.scores - own + 0.5, detections.labels
    )
    bootstrap = Bootstrap(truth, resamples=20, seed=3)
    found = bootstrap.samples(detections, calibration).overall
    expected = bootstrap.samples(moved, 0.5).overall
    assert found["f1_calibrated"].value == baseline.overall["f1_calibrated"]
    # Within an image the order of scores is the same, which is all that matching looks at.
    for metric in ("f1_calibrated", "giou_penalized"):
        assert columns(found[metric]) == pytest.approx(columns(expected[metric]), abs=1e-12)


def test_no_detection_scores_zero_on_every_sample() -> None:
    truth, _ = truth_and_detections(1.0)
    samples = Bootstrap(truth, resamples=5).samples(Detections.concatenate([]), 0.5).overall
    assert (columns(samples["AP"]) == 0).all()
    assert (columns(samples["f1_calibrated"]) == 0).all()
    assert (columns(samples["giou_penalized"]) == -1).all()


def test_a_class_is_told_of_by_the_images_that_show_it() -> None:
    truth, detections = truth_and_detections(1.0)
    bootstrap = Bootstrap(truth, resamples=5)
    samples = bootstrap.samples(detections, 0.5)
    expected = [
        len({i for i, c, crowd in zip(truth.image, truth.labels, truth.ignore, strict=True)
             if c == label and not crowd})
        for label in bootstrap.classes
    ]  # fmt: skip
    assert [one.images for one in samples.ap_per_class] == expected
    shown = len(set(truth.image[~truth.ignore].tolist()))
    assert shown < IMAGES
    assert {name: one.images for name, one in samples.overall.items()} == {
        "AP": shown, "AP50": shown, "f1_calibrated": IMAGES, "giou_penalized": IMAGES,
    }  # fmt: skip
    assert {one.all_images for one in (*samples.overall.values(), *samples.ap_per_class)} == {
        IMAGES
    }


def test_images_without_objects_make_no_change_of_ap_more_certain() -> None:
    """Five images tell of five objects, whatever number of empty ones is beside them."""

    def width(empty: int) -> float:
        five = np.arange(5)
        truth = truth_of(five, np.tile([0, 0, 50, 50], (5, 1)), five * 0, images=5 + empty)

        def found(overlaps: list[float]) -> Detections:
            boxes = np.array([[0, 0, 50 * x, 50] for x in overlaps])
            return Detections(five, boxes, np.full(5, 0.9), five * 0)

        bootstrap = Bootstrap(truth, resamples=200)
        before, after = (
            bootstrap.samples(found(one), 0.5).overall["AP"]
            for one in ([0.99, 0.9, 0.8, 0.9, 0.7], [0.9, 0.92, 0.6, 0.7, 0.75])
        )
        test = paired_test(after - before)
        assert test is not None
        low, high = test.interval()
        return high - low

    alone = width(0)
    assert width(45) > 0.95 * alone
    assert width(195) > 0.95 * alone


def test_skewness_of_ap_is_that_of_its_resamples_where_few_images_show_a_class() -> None:
    """Without an image a class may be gone, too: the jackknife's skewness tells nothing of a change
    of AP then, and often has the wrong sign."""
    opposite = 0
    for seed in range(8):
        change = change_of_rare_classes(seed, images=40, classes=60)
        found, by_jackknife = paired_test(change), -skewness(change.left_out)
        assert found is not None
        assert found.skew * skewness(change.resampled) >= 0
        opposite += by_jackknife * skewness(change.resampled) < 0
    assert opposite > 1


def change_of_rare_classes(seed: int, images: int, classes: int) -> Sampled:
    """The change of AP of a detector that no longer finds a fifth of its objects."""
    rng = np.random.default_rng([seed, 2])
    image = np.repeat(np.arange(images), 3)
    left = np.tile([0.0, 100.0, 200.0], images)
    boxes = np.stack([left, np.zeros(3 * images), left + 50, np.full(3 * images, 50.0)], axis=1)
    common = 1 / np.arange(1, classes + 1)
    truth = truth_of(
        image, boxes, rng.choice(classes, len(image), p=common / common.sum()),
        images=images, classes=tuple(map(str, range(classes))), side=300,
    )  # fmt: skip
    scores, found = rng.random(len(image)), rng.random(len(image)) < 0.7
    boxes = boxes + np.where(rng.random(len(image)) < 0.2, 60.0, 0.0)[:, None]  # beside the object
    sampled = Bootstrap(truth, 1000)
    before, after = (
        sampled.samples(
            Detections(image[kept], boxes[kept], scores[kept], truth.labels[kept]),
            0.5,
            per_class=False,
        ).overall["AP"]
        for kept in (found, found & (rng.random(len(image)) > 0.2))
    )
    return after - before


def test_draws_are_the_same_everywhere() -> None:
    counts = draws(5, 3, seed=7)
    assert counts[:, 0].tolist() == [1, 1, 1, 1, 1]
    assert (counts.sum(axis=0) == 5).all()
    assert np.array_equal(counts, draws(5, 3, seed=7))
    assert np.array_equal(counts, draws(5, 9, seed=7)[:, :4])


@pytest.mark.parametrize(("images", "groups"), [(7, 7), (10, 4), (1, 1)])
def test_every_image_is_left_out_once(images: int, groups: int) -> None:
    kept = left_out(images, groups, seed=0)
    assert kept.shape == (images, groups)
    assert ((kept == 0).sum(axis=1) == 1).all()
    sizes = (kept == 0).sum(axis=0)
    assert sizes.max() - sizes.min() <= 1


def test_one_resample_is_refused() -> None:
    truth, _ = truth_and_detections(1.0)
    with pytest.raises(UserError, match="resample 1 times"):
        Bootstrap(truth, resamples=1)


@pytest.mark.parametrize(("samples", "times"), [(6, 1), (300, 1), (300, 30)])
def test_compiled_gives_the_same_bits(
    samples: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numba", reason="the extra fast is not installed")
    monkeypatch.setattr(resampled_ap, "_CLASSES", 2)  # of three: more than are looked at together
    truth, detections = truth_and_detections(3.0, seed=2)
    # Images that count often: sums of few detections do not fit 8 bits.
    weights = draws(IMAGES, samples - 1, seed=4) * np.uint8(times)
    # Twenty objects of one class: hits reach a level exactly, which as floats they do not.
    assert (np.bincount(truth.labels[~truth.ignore]) % 20 == 0).any()
    one, matched = ResampledPrecision(truth, weights), Matched.of(truth, detections)
    compiled, plain = (np.array(list(way(matched))) for way in (one.compiled, one.plain))
    assert compiled.shape == (3, 2, samples)
    assert np.array_equal(compiled, plain, equal_nan=True)
    assert (plain[:, :, 0] > 0).all()


def test_what_is_asked_of_many_sets_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="the extra fast is not installed")
    ways: list[str] = []
    for name in ("plain", "compiled"):
        monkeypatch.setattr(
            ResampledPrecision, name, lambda _, __, name=name: iter(ways.append(name) or ())
        )
    truth, found = truth_and_detections(1.0)
    matched = Matched.of(truth, found)
    weights = draws(IMAGES, 20, seed=0)
    monkeypatch.setattr(resampled_ap, "_WORTH", 5 * len(matched) * weights.shape[1])
    for sets in (1, 4, 5):
        ResampledPrecision(truth, weights, sets).of(matched)
    assert ways == ["plain", "plain", "compiled"]


def test_a_numba_that_does_not_load_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: str) -> None:
        raise ImportError("Numba needs NumPy 2.4 or less")

    truth, found = truth_and_detections(1.0)
    matched, one = Matched.of(truth, found), ResampledPrecision(truth, draws(IMAGES, 20, seed=0))
    monkeypatch.setattr(resampled_ap, "_WORTH", 0)
    monkeypatch.setattr(resampled_ap, "import_module", load)
    resampled_ap._numba.cache_clear()
    try:
        ways = [np.array(list(way(matched))) for way in (one.of, one.plain)]
    finally:
        resampled_ap._numba.cache_clear()
    assert np.array_equal(*ways, equal_nan=True)


def test_where_no_cache_can_be_written_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    numba = pytest.importorskip("numba", reason="the extra fast is not installed")
    compiled_ap = importlib.import_module("ablate_kit.metrics.uncertainty.compiled_ap")

    def njit(cache: bool = False, **how: object) -> Callable[[object], object]:
        if cache:
            raise RuntimeError("cannot cache function 'precisions': no locator available")
        return lambda function: (function, how["nogil"])

    monkeypatch.setattr(numba, "njit", njit)
    assert compiled_ap.compiled(len) == (len, True)


def test_no_number_depends_on_how_many_threads_there_are() -> None:
    truth, _ = truth_and_detections(1.0)
    bootstrap = Bootstrap(truth, resamples=20)
    found = [truth_and_detections(noise)[1] for noise in (0.5, 1.0, 2.0, 4.0)]

    def samples(one: Detections) -> bytes:
        overall = bootstrap.samples(one, 0.4).overall
        return b"".join(columns(overall[key]).tobytes() for key in KEYS)

    alone = [samples(one) for one in found]
    assert len(set(alone)) == len(found)
    for threads in (1, 3):
        assert list(in_threads(samples, found, threads)) == alone

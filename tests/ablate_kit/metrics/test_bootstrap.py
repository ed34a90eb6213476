"""The bootstrap is what evaluating data sets with repeated images gives."""

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.bootstrap import (
    Bootstrap,
    changes,
    class_changes,
    draws,
    holm,
    smallest_detectable,
)
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.headline import KEYS

IMAGES, CLASSES = 30, 4


def truth_and_detections(noise: float, seed: int = 0) -> tuple[GroundTruth, Detections]:
    """Objects, some of them crowds, and shaken copies of them among false alarms."""
    layout, shake = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    counts = layout.integers(0, 6, IMAGES)
    image = np.repeat(np.arange(IMAGES), counts)
    n = len(image)
    corner, size = layout.uniform(0, 60, (n, 2)), layout.uniform(10, 40, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    labels = layout.integers(0, CLASSES - 1, n)  # the last class has no object
    truth = GroundTruth(
        image_ids=np.arange(IMAGES) * 7 + 3,
        widths=np.full(IMAGES, 100),
        heights=np.full(IMAGES, 100),
        image=image,
        boxes=boxes,
        labels=labels,
        ignore=layout.random(n) < 0.1,
        areas=size.prod(axis=1),
        ids=np.arange(1, n + 1),
        classes=tuple("abcd"),
        category_ids=(1, 2, 3, 4),
    )
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
        Detections(
            image=np.repeat(np.arange(len(source)), [len(one) for one in boxes]),
            boxes=detections.boxes[found],
            scores=detections.scores[found],
            labels=detections.labels[found],
        ),
    )


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_every_resample_is_the_evaluation_of_repeated_images(noise: float) -> None:
    truth, detections = truth_and_detections(noise)
    bootstrap = Bootstrap(truth, resamples=25, seed=1)
    samples = bootstrap.samples(detections, 0.4)
    for i, weights in enumerate(bootstrap.weights.T):
        numbers = evaluate(*repeated(truth, detections, weights), score_threshold=0.4)
        for metric in KEYS:
            expected = numbers.overall[metric]
            assert samples[metric][i] == pytest.approx(expected, abs=1e-12), (metric, i)
        classes = [truth.classes[label] for label in bootstrap.classes]
        assert 0 < len(classes) < len(truth.classes)
        for name, value in zip(classes, samples["AP per class"][:, i], strict=True):
            expected = numbers.per_class[name]["AP"]
            assert (expected is None) == np.isnan(value)
            assert expected is None or value == pytest.approx(expected, abs=1e-12)


def test_the_standard_error_is_that_of_brute_force() -> None:
    truth, before = truth_and_detections(1.0)
    _, after = truth_and_detections(3.0)
    bootstrap = Bootstrap(truth, resamples=200, seed=2)
    (fast,) = changes(bootstrap.samples(before, 0.4), [bootstrap.samples(after, 0.4)])
    brute: dict[str, list[float]] = {metric: [] for metric in KEYS}
    for weights in bootstrap.weights.T[1:]:
        a, b = (
            evaluate(*repeated(truth, one, weights), score_threshold=0.4).overall
            for one in (before, after)
        )
        for metric in KEYS:
            brute[metric].append((b[metric] or 0.0) - (a[metric] or 0.0))
    for metric in KEYS:
        assert fast[metric].error == pytest.approx(np.std(brute[metric], ddof=1), rel=1e-9)


def test_no_detection_scores_zero_on_every_resample() -> None:
    truth, _ = truth_and_detections(1.0)
    samples = Bootstrap(truth, resamples=5).samples(Detections.concatenate([]), 0.5)
    assert (samples["AP"] == 0).all()
    assert (samples["f1_calibrated"] == 0).all()
    assert (samples["giou_penalized"] == -1).all()


def test_no_change_is_never_significant() -> None:
    truth, detections = truth_and_detections(2.0)
    samples = Bootstrap(truth, resamples=50).samples(detections, 0.4)
    (same,) = changes(samples, [samples])
    assert same["AP"].change == 0
    assert same["AP"].p == 1
    assert not same["AP"].significant
    assert smallest_detectable([same], "AP") is None
    assert [one.change for one in class_changes(samples, samples)] == [0, 0, 0]


def test_a_large_change_is_significant_and_inside_its_interval() -> None:
    truth, good = truth_and_detections(1.0)
    _, bad = truth_and_detections(9.0)
    bootstrap = Bootstrap(truth, resamples=500)
    found = changes(
        bootstrap.samples(good, 0.4), [bootstrap.samples(one, 0.4) for one in (bad, good)]
    )
    ap = found[0]["AP"]
    assert ap.low < ap.change < ap.high < 0
    assert ap.significant
    assert smallest_detectable(found, "AP") == pytest.approx(2.8016 * ap.error, rel=1e-4)


def test_draws_are_the_same_everywhere() -> None:
    counts = draws(5, 3, seed=7)
    assert counts[:, 0].tolist() == [1, 1, 1, 1, 1]
    assert (counts.sum(axis=0) == 5).all()
    assert np.array_equal(counts, draws(5, 3, seed=7))
    assert np.array_equal(counts, draws(5, 9, seed=7)[:, :4])


def test_holm_is_the_published_example() -> None:
    # Holm's procedure as R's p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm") computes it.
    assert holm([0.03, 0.01, None, 0.04, 0.02]) == pytest.approx([0.06, 0.04, None, 0.06, 0.06])


def test_one_resample_is_refused() -> None:
    truth, _ = truth_and_detections(1.0)
    with pytest.raises(UserError, match="resample 1 times"):
        Bootstrap(truth, resamples=1)

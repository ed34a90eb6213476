"""Thresholds are chosen on other images than those that they are used on."""

from dataclasses import replace

import numpy as np
import pytest

from ablate_kit.metrics.calibration import FOLDS, Calibration, cross_fitted, fold_of
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.f1 import calibrate, f1_at
from ablate_kit.metrics.matching import greedy_matches
from tests.ablate_kit.made_up import truth_of


def study(images: int, seed: int) -> tuple[GroundTruth, Detections, Detections]:
    """A truth, and two detectors of it that differ by nothing but chance."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), 3)
    corner = np.tile([[0.0, 0.0], [40.0, 0.0], [0.0, 40.0]], (images, 1))
    boxes = np.concatenate([corner, corner + 20], axis=1)
    n = len(image)
    truth = truth_of(
        image, boxes, np.zeros(n), images=images, classes=("box",),
        image_ids=np.arange(100, 100 + images),
    )  # fmt: skip
    return truth, *(_detector(image, boxes, rng) for _ in range(2))


def _detector(image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator) -> Detections:
    n = len(image)
    false = boxes + 60.0  # meet no object
    return Detections(
        image=np.concatenate([image, image]),
        boxes=np.concatenate([boxes, false]),
        scores=np.concatenate([rng.beta(3, 2, n), rng.beta(2, 3, n)]),
        labels=np.zeros(2 * n, dtype=int),
    )


def test_the_threshold_of_a_fold_is_the_best_of_the_other_images() -> None:
    truth, found, _ = study(23, 0)
    matches = greedy_matches(truth, found)
    calibration = cross_fitted(truth, found, matches)
    fold = fold_of(truth, FOLDS)
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    assert calibration.whole == calibrate(matches)
    for one, threshold in enumerate(calibration.folds):
        others = np.flatnonzero(fold != one)
        kept, real = np.isin(found.image, others), np.isin(truth.image, others)
        columns = ("image", "boxes", "labels", "ignore", "areas", "ids")
        alone = replace(truth, **{name: getattr(truth, name)[real] for name in columns})
        assert threshold == calibrate(greedy_matches(alone, found.rows(kept)))
    assert (calibration.of_images(truth) == np.asarray(calibration.folds)[fold]).all()


def images_of(ids: np.ndarray, corners: np.ndarray, **columns: np.ndarray) -> GroundTruth:
    """An object in each image."""
    n = len(ids)
    return truth_of(
        np.arange(n), np.stack([corners, corners, corners + 5, corners + 5], axis=1), np.zeros(n),
        images=n, classes=("box",), image_ids=ids, **columns,
    )  # fmt: skip


def test_folds_do_not_depend_on_the_order_of_images() -> None:
    ids = np.array([40, 7, 12, 99, 3, 55, 21, 8, 41, 5, 77])
    corners = ids.astype(float)
    shuffled = np.random.default_rng(0).permutation(len(ids))
    one, other = images_of(ids, corners), images_of(ids[shuffled], corners[shuffled])
    assert (fold_of(one, 3)[shuffled] == fold_of(other, 3)).all()


def test_images_of_a_cluster_are_in_one_fold() -> None:
    rng = np.random.default_rng(1)
    clusters = rng.integers(0, 9, 40)
    truth = images_of(np.arange(40), rng.random(40), clusters=clusters)
    fold = fold_of(truth, 4)
    assert all(len(set(fold[clusters == one])) == 1 for one in range(9))
    assert len(set(fold)) == 4


def test_one_image_has_its_own_threshold() -> None:
    truth, found, _ = study(1, 0)
    assert cross_fitted(truth, found, greedy_matches(truth, found)).folds == ()
    assert Calibration(0.25).of_images(truth).tolist() == [0.25]


@pytest.mark.parametrize("images", [20, 60])
def test_between_equal_detectors_the_mean_change_is_none(images: int) -> None:
    """And as many of the changes are losses as are gains."""
    fitted, naive = [], []
    for seed in range(200):
        truth, one, other = study(images, seed)
        first, second = greedy_matches(truth, one), greedy_matches(truth, other)
        calibration = cross_fitted(truth, one, first)
        of_images = calibration.of_images(truth)
        before, after = (
            f1_at(matches, of_images[found.image]).f1
            for matches, found in ((first, one), (second, other))
        )
        fitted.append(after - before)
        naive.append(f1_at(second, calibration.whole).f1 - f1_at(first, calibration.whole).f1)
    error = np.std(fitted) / np.sqrt(len(fitted))
    assert abs(np.mean(fitted)) < 3 * error
    assert abs(np.sum(np.sign(fitted))) < 3 * np.sqrt(len(fitted))
    # Chosen on the same images, the threshold makes an equal detector look worse.
    assert np.mean(naive) < -4 * error

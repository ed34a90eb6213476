"""Optimal LRP against loops that know nothing of it but the paper's definition."""

import numpy as np
import pytest

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.lrp import optimal_lrp
from ablate_kit.metrics.matching import greedy_matches
from tests.ablate_kit.made_up import overlap, truth_of

CLASSES = ("a", "b", "c")


def study(seed: int, false: int = 30) -> tuple[GroundTruth, Detections]:
    rng = np.random.default_rng(seed)
    images, n = 8, 25
    image = np.sort(rng.integers(0, images, n))
    corner, size = rng.uniform(0, 60, (n, 2)), rng.uniform(10, 40, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    labels = rng.integers(0, 2, n)  # the last class has no object
    truth = truth_of(image, boxes, labels, images=images, classes=CLASSES)
    anywhere = rng.uniform(0, 60, (false, 2))
    found = Detections(
        image=np.concatenate([image, rng.integers(0, images, false)]),
        boxes=np.concatenate(
            [boxes + rng.normal(0, 2, boxes.shape), np.concatenate([anywhere, anywhere + 20], 1)]
        ),
        # Of one decimal, so that many share a score.
        scores=np.round(np.concatenate([rng.uniform(0.3, 1, n), rng.uniform(0, 0.7, false)]), 1),
        labels=np.concatenate([labels, rng.integers(0, 3, false)]),
    )
    return truth, found


def lrp(truth: GroundTruth, found: Detections, label: int, score: float) -> list[float]:
    """LRP of a class at a score, and its parts: (error, localization, FP, FN)."""
    hits: list[float] = []
    false = objects = 0
    for image in range(len(truth.image_ids)):
        boxes = [
            box
            for at, name, box in zip(truth.image, truth.labels, truth.boxes.tolist(), strict=True)
            if at == image and name == label
        ]
        objects += len(boxes)
        rows = [
            row
            for row in range(len(found))
            if found.image[row] == image and found.labels[row] == label
            and found.scores[row] >= score
        ]  # fmt: skip
        for row in sorted(rows, key=lambda row: -found.scores[row]):
            overlaps = [overlap(found.boxes[row].tolist(), box) for box in boxes]
            best = max(overlaps, default=0.0)
            if best < 0.5:
                false += 1
                continue
            hits.append(best)
            del boxes[overlaps.index(best)]
    missed = objects - len(hits)
    total = len(hits) + false + missed
    return [
        (sum((1 - one) / 0.5 for one in hits) + false + missed) / total,
        sum(1 - one for one in hits) / len(hits) if hits else float("nan"),
        false / (false + len(hits)) if false + len(hits) else float("nan"),
        missed / objects,
    ]


@pytest.mark.parametrize("seed", range(6))
def test_it_is_that_of_naive_loops(seed: int) -> None:
    truth, found = study(seed)
    result = optimal_lrp(truth, found, greedy_matches(truth, found))
    numbers = evaluate(truth, found)
    means = []
    for label in range(2):
        tried = sorted(
            (lrp(truth, found, label, score), -score)
            for score in np.unique(found.scores[found.labels == label])
        )
        best, score = tried[0]
        assert result.threshold[label] == -score
        row = numbers.per_class[CLASSES[label]]
        keys = ("olrp", "olrp_localization", "olrp_false_positive", "olrp_false_negative")
        assert [row[key] for key in keys] == pytest.approx(best, abs=1e-12, nan_ok=True)
        means.append(best)
    for i, key in enumerate(keys):
        assert numbers.overall[key] == pytest.approx(np.mean(means, axis=0)[i], abs=1e-12)
    assert np.isnan(result.error[2])
    assert numbers.per_class["c"]["olrp"] is None


def test_finding_nothing_is_the_largest_error() -> None:
    truth, _ = study(0)
    overall = evaluate(truth, Detections.concatenate([])).overall
    assert (overall["olrp"], overall["olrp_false_negative"]) == (1, 1)
    assert overall["olrp_localization"] is overall["olrp_false_positive"] is None


def test_a_perfect_detector_has_none() -> None:
    truth, _ = study(0)
    n = len(truth)
    found = Detections(truth.image, truth.boxes, np.ones(n), truth.labels)
    overall = evaluate(truth, found).overall
    for part in ("", "_localization", "_false_positive", "_false_negative"):
        assert overall[f"olrp{part}"] == 0


def test_it_sees_the_flood_that_giou_does_not() -> None:
    truth, found = study(1, false=0)
    _, other = study(2, false=600)
    extra = Detections(other.image, other.boxes, np.ones(len(other)), other.labels)
    before, after = (
        evaluate(truth, one, score_threshold=0.3).overall
        for one in (found, Detections.concatenate([found, extra]))
    )
    assert after["giou_penalized"] >= before["giou_penalized"]
    assert after["olrp"] > before["olrp"] + 0.3
    assert after["olrp_false_positive"] > before["olrp_false_positive"] + 0.5

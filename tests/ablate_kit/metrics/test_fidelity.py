"""Distances from the unmodified model, against a loop that knows only what they mean."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate_kit.errors import UserError
from ablate_kit.metrics.boxes import iou
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.fidelity import MEASURES, fidelity
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap
from ablate_kit.metrics.uncertainty.comparison import compare
from ablate_kit.metrics.uncertainty.statistics import Statistics
from ablate_kit.models.labels.own_objects import own_objects
from tests.ablate_kit.made_up import truth_of

IMAGES, CLASSES, SCORE = 12, 3, 0.4


def images(count: int = IMAGES) -> GroundTruth:
    return truth_of([], [], [], images=count, classes="abc", image_ids=np.arange(1, count + 1))


def detections(seed: int, each: int = 6, spread: float = 0.0) -> Detections:
    """The same boxes for a seed, moved by ``spread``; some twice, as another class."""
    draw, moved = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    corner = draw.uniform(0, 50, (IMAGES * each, 2))
    boxes = np.concatenate([corner, corner + draw.uniform(5, 30, (IMAGES * each, 2))], axis=1)
    labels = draw.integers(0, CLASSES, IMAGES * each)
    scores = draw.uniform(0, 1, IMAGES * each)
    image = np.repeat(np.arange(IMAGES), each)
    twin = draw.random(len(image)) < 0.2  # as where a query is decoded as two classes
    found = Detections(
        image=np.concatenate([image, image[twin]]),
        boxes=np.concatenate([boxes, boxes[twin]]),
        scores=np.concatenate([scores, scores[twin] * 0.9]),
        labels=np.concatenate([labels, (labels[twin] + 1) % CLASSES]),
    )
    if not spread:
        return found
    return replace(
        found,
        boxes=found.boxes + moved.normal(0, 2 * spread, found.boxes.shape),
        scores=np.clip(found.scores + moved.normal(0, 0.2 * spread, len(found)), 0, 1),
        labels=np.where(moved.random(len(found)) < 0.3 * spread,
                        moved.integers(0, CLASSES, len(found)), found.labels),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_the_unmodified_model_is_at_no_distance_from_itself(seed: int) -> None:
    found = detections(seed)
    own = own_objects(images(), found, SCORE)
    numbers = evaluate(own, found).overall
    for key in ("AP", "AP50", "AP75", "AR100", "f1_fixed", "f1_calibrated", "match_rate"):
        assert numbers[key if key != "f1_fixed" else "f1_calibrated"] == 1, key
    assert numbers["giou_penalized"] == pytest.approx(1, abs=1e-12)
    assert numbers["matched_iou"] == 1
    assert [numbers[key] for key in ("class_flips", "lost_boxes", "new_boxes", "olrp")] == [0] * 4


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), spread=st.floats(0.1, 1.5))
def test_the_numbers_are_those_of_a_loop(seed: int, spread: float) -> None:
    own = own_objects(images(), detections(seed), SCORE)
    found = detections(seed, spread=spread)
    objects = kept = flipped = new = 0
    overlaps: list[float] = []
    for image in range(IMAGES):
        free = np.flatnonzero(own.image == image).tolist()
        objects += len(free)
        rows = np.flatnonzero((found.image == image) & (found.scores >= SCORE))
        for row in rows[np.argsort(-found.scores[rows], kind="stable")]:
            best = max(
                free,
                key=lambda one: (
                    iou(found.boxes[row], own.boxes[one]), own.labels[one] == found.labels[row]
                ),
                default=None,
            )  # fmt: skip
            overlap = 0.0 if best is None else float(iou(found.boxes[row], own.boxes[best]))
            if overlap < 0.5:
                new += 1
                continue
            free.remove(best)
            kept += 1
            overlaps.append(overlap)
            flipped += int(own.labels[best] != found.labels[row])
    expected = [
        np.mean(overlaps) if overlaps else np.nan,
        flipped / objects, (objects - kept) / objects, new / objects,
    ]  # fmt: skip
    numbers = fidelity(own, found)
    assert list(numbers) == [one.key for one in MEASURES]
    np.testing.assert_allclose(list(numbers.values()), expected, atol=1e-9)


def test_resampled_numbers_are_those_of_repeated_images() -> None:
    first, second = detections(1), detections(1, spread=0.6)
    own = own_objects(images(), first, SCORE)
    bootstrap = Bootstrap(own, 20)
    samples = bootstrap.samples(second, SCORE).overall
    for column in range(20):
        drawn = np.repeat(np.arange(IMAGES), bootstrap.weights[:, 1 + column])
        parts, truths = [], []
        for at, image in enumerate(drawn):
            rows = np.flatnonzero(second.image == image)
            parts.append(replace(second.rows(rows), image=np.full(len(rows), at)))
            truths += [(at, row) for row in np.flatnonzero(own.image == image)]
        at, row = np.array(truths).T
        assert own.sizes is not None
        again = replace(
            images(len(drawn)), image=at, boxes=own.boxes[row], labels=own.labels[row],
            ignore=own.ignore[row], areas=own.areas[row], ids=np.arange(1, len(row) + 1),
            sizes=own.sizes[row], own_score=SCORE,
        )  # fmt: skip
        for key, value in fidelity(again, Detections.concatenate(parts)).items():
            assert samples[key].resampled[column] == pytest.approx(value, abs=1e-12), key


def test_every_measure_has_an_interval() -> None:
    first, second = detections(2), detections(2, spread=0.8)
    own = own_objects(images(), first, SCORE)
    results = [
        Result.of(name, name, own, one, threshold=None, fixed_threshold=SCORE)
        for name, one in (("unmodified", first), ("cut", second))
    ]
    (change,) = compare(own, results, Statistics(resamples=200), classes=False).changes
    for key in ("AP", *(one.key for one in MEASURES)):
        low, high = change[key].low, change[key].high
        assert low is not None
        assert high is not None
        assert low < (change[key].change or 0) < high, key
    assert change["AP"].value == pytest.approx(results[1].evaluation.overall["AP"])
    assert 0.1 < (change["AP"].value or 0) < 0.9
    assert change["lost_boxes"].change == results[1].evaluation.overall["lost_boxes"]


def test_they_are_kept_as_json() -> None:
    found = detections(3)
    own = own_objects(images(), found, SCORE)
    again = GroundTruth.from_coco(own.to_coco())
    assert again.own_score == SCORE
    np.testing.assert_array_equal(again.boxes, own.boxes)
    assert evaluate(again, found).to_dict() == evaluate(own, found).to_dict()
    assert "own_score" not in images().to_coco()
    with pytest.raises(UserError, match="own_score is 'x'; expected a score"):
        GroundTruth.from_coco(own.to_coco() | {"own_score": "x"})


def test_a_model_that_finds_nothing_is_no_reference() -> None:
    found = detections(4)
    with pytest.raises(UserError, match=r"has a score of 1.*its best has 0\.9.*--score-threshold"):
        own_objects(images(), found, 1)
    with pytest.raises(UserError, match="finds nothing at all"):
        own_objects(images(), Detections.concatenate([]), SCORE)

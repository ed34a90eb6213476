import dataclasses
import json
import re

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.evaluate import Evaluation, Thresholds, evaluate
from ablate_kit.metrics.fidelity import MEASURES
from tests.ablate_kit.made_up import truth_of

CLASSES = ("cat", "dog", "fox", "owl")  # no owl is ever annotated


def corpus(seed, images=6):
    rng = np.random.default_rng(seed)
    n, m = 25, 120
    image = np.sort(rng.integers(0, images, n))
    corner = rng.uniform(0, 200, (n, 2))
    sizes = rng.uniform(5, 120, (n, 2))
    ids, labels = rng.permutation(1000)[:images], rng.integers(0, 3, n)
    truth = truth_of(
        image, np.concatenate([corner, corner + sizes], axis=1), labels, images=images,
        classes=CLASSES, side=320, image_ids=ids, ignore=rng.random(n) < 0.1,
        category_ids=(4, 1, 3, 2),
    )  # fmt: skip
    copied = rng.integers(0, n, m)
    found = Detections(
        image=truth.image[copied],
        boxes=truth.boxes[copied] + rng.normal(0, 6, (m, 4)),
        scores=rng.random(m).round(2),
        labels=np.where(rng.random(m) < 0.7, truth.labels[copied], rng.integers(0, 4, m)),
    )
    return truth, found


NOTHING = Detections.concatenate([])


def test_every_number_is_listed_in_the_table():
    result = evaluate(*corpus(0))
    rows = re.findall(r"^ *(\w[\w ]*?)  +(yes|no|only) ", Evaluation.__doc__, re.MULTILINE)
    overall = [key for keys, where in rows for key in keys.split() if where != "only"]
    measures = {one.key for one in MEASURES}  # which are of images without labels alone
    assert measures <= set(overall)
    overall = [key for key in overall if key not in measures]
    per_class = [key for keys, where in rows for key in keys.split() if where != "no"]
    assert set(result.overall) == set(overall)
    assert len(overall) == len(set(overall)) == 29
    assert tuple(result.per_class) == CLASSES
    for row in result.per_class.values():
        assert set(row) == set(per_class)


def test_an_evaluation_survives_json():
    for detections in (corpus(0)[1], NOTHING):
        result = evaluate(corpus(0)[0], detections)
        text = json.dumps(result.to_dict(), allow_nan=False)
        assert Evaluation.from_dict(json.loads(text)) == result


@pytest.mark.parametrize(
    "broken",
    [
        {},
        [],
        {"overall": {"AP": "high"}, "per_class": {}, "thresholds": {}, "counts": {}},
        {"overall": {}, "per_class": {}, "thresholds": {"fixed": 0.5}, "counts": {}},
        {"overall": {}, "per_class": {"cat": 1}, "thresholds": {}, "counts": {}},
    ],
)
def test_what_is_not_an_evaluation_is_refused_in_one_line(broken):
    with pytest.raises(UserError, match="not an evaluation") as error:
        Evaluation.from_dict(broken)
    assert "\n" not in str(error.value)


def test_a_variant_without_detections_scores_zero():
    truth, _ = corpus(0)
    result = evaluate(truth, NOTHING, score_threshold=0.4)
    expected = dict.fromkeys(result.overall, 0.0)
    expected |= {"giou_penalized": -1.0, "giou_matched": None, "giou_published": None}
    expected |= {"olrp": 1.0, "olrp_false_negative": 1.0}
    expected |= {"olrp_localization": None, "olrp_false_positive": None}
    assert result.overall == expected
    for name in CLASSES[:3]:
        row = result.per_class[name]
        assert row.pop("support") > 0
        assert row == {key: expected[key] for key in row}
    owl = result.per_class["owl"]
    assert owl.pop("support") == 0
    assert set(owl.values()) == {None}
    assert result.counts["fn_fixed"] == result.counts["ground_truths"] == (~truth.ignore).sum()


def test_a_baseline_without_detections_can_be_calibrated():
    result = evaluate(corpus(0)[0], NOTHING)
    assert result.thresholds == Thresholds(0.5, 0.0, calibrated_here=True, folds=(0.0,) * 5)


def test_images_without_any_annotation_define_no_number():
    truth, found = corpus(0)
    columns = ("image", "boxes", "labels", "ignore", "areas", "ids")
    empty = dataclasses.replace(truth, **{name: getattr(truth, name)[:0] for name in columns})
    for detections in (found, NOTHING):
        result = evaluate(empty, detections)
        assert set(result.overall.values()) == {None}


def test_a_variant_is_judged_at_the_threshold_of_its_baseline():
    truth, found = corpus(0)
    baseline = evaluate(truth, found)
    assert baseline.thresholds.calibrated_here
    variant = dataclasses.replace(found, scores=found.scores * 0.9)
    judged = evaluate(truth, variant, score_threshold=baseline.thresholds.calibration)
    assert judged.thresholds == dataclasses.replace(baseline.thresholds, calibrated_here=False)
    assert judged.overall["f1_calibrated"] < baseline.overall["f1_calibrated"]
    own = evaluate(truth, variant)
    assert own.overall["f1_calibrated"] == baseline.overall["f1_calibrated"]
    assert own.overall["AP"] == baseline.overall["AP"]


def test_at_the_calibrated_threshold_the_two_thresholds_agree():
    truth, found = corpus(2)
    calibrated = evaluate(truth, found).thresholds.calibrated
    result = evaluate(truth, found, score_threshold=calibrated, fixed_threshold=calibrated)
    for name in ("f1", "precision", "recall", "macro_f1"):
        assert result.overall[f"{name}_fixed"] == result.overall[f"{name}_calibrated"]
    assert result.counts["tp_fixed"] == result.counts["tp_calibrated"]


def changed(one, other):
    return {key for key, value in one.overall.items() if value != other.overall[key]}


def test_each_threshold_governs_its_own_numbers():
    truth, found = corpus(1)
    result = evaluate(truth, found, score_threshold=0.8, fixed_threshold=0.2)
    fixed = changed(result, evaluate(truth, found, score_threshold=0.8, fixed_threshold=0.6))
    assert fixed == {"f1_fixed", "precision_fixed", "recall_fixed", "macro_f1_fixed"}
    calibrated = changed(result, evaluate(truth, found, score_threshold=0.4, fixed_threshold=0.2))
    assert calibrated == {
        *(key.replace("_fixed", "_calibrated") for key in fixed),
        *("giou_matched", "match_rate", "giou_penalized"),
    }


def with_nan(row):
    return {key: float("nan") if value is None else value for key, value in row.items()}


def same(one, other):
    """Equal but for the order of sums."""
    assert one.per_class.keys() == other.per_class.keys()
    for mine, yours in (
        (one.overall, other.overall),
        *((one.per_class[name], other.per_class[name]) for name in CLASSES),
    ):
        assert with_nan(mine) == pytest.approx(with_nan(yours), rel=1e-12, nan_ok=True)
    assert one.counts == other.counts
    assert one.thresholds == other.thresholds


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_images_changes_no_number(seed):
    truth, found = corpus(seed)
    shuffled = np.random.default_rng(seed).permutation(len(truth.image_ids))  # new -> old
    place = np.argsort(shuffled)  # old -> new
    order = np.argsort(place[truth.image], kind="stable")
    moved = dataclasses.replace(
        truth,
        image_ids=truth.image_ids[shuffled],
        image=place[truth.image][order],
        **{name: getattr(truth, name)[order] for name in ("boxes", "labels", "areas", "ids")},
        ignore=truth.ignore[order],
    )
    same(
        evaluate(truth, found),
        evaluate(moved, dataclasses.replace(found, image=place[found.image])),
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_detection_of_the_lowest_score_changes_no_f1_above_it(seed):
    truth, found = corpus(seed)
    last = dataclasses.replace(
        found, **{name: getattr(found, name)[:1] for name in ("image", "boxes", "scores", "labels")}
    )
    last = dataclasses.replace(last, scores=np.array([-1.0]))
    before = evaluate(truth, found)
    after = evaluate(truth, Detections.concatenate([found, last]))
    unmoved = [key for key in before.overall if key.endswith(("_fixed", "_calibrated"))]
    assert {key: after.overall[key] for key in unmoved} == {
        key: before.overall[key] for key in unmoved
    }


@pytest.mark.parametrize("seed", range(5))
def test_repeating_every_detection_adds_only_false_positives(seed):
    truth, found = corpus(seed)
    once = evaluate(truth, found, score_threshold=0.3)
    twice = evaluate(truth, Detections.concatenate([found, found]), score_threshold=0.3)
    assert twice.counts["tp_calibrated"] >= once.counts["tp_calibrated"]
    assert twice.counts["fp_calibrated"] > once.counts["fp_calibrated"]
    assert twice.overall["precision_calibrated"] < once.overall["precision_calibrated"]


def test_a_broken_detector_is_scored_and_not_refused():
    truth, found = corpus(0)
    wild = found.boxes.astype(np.float32) * np.float32(1e30)
    inverted = found.boxes[:, [2, 3, 0, 1]]
    for boxes in (wild, inverted, np.zeros_like(found.boxes)):
        result = evaluate(truth, dataclasses.replace(found, boxes=boxes))
        assert result.overall["AP"] == result.overall["f1_fixed"] == 0
        assert -1 <= result.overall["giou_penalized"] < 0


@pytest.mark.parametrize("name", ["score_threshold", "fixed_threshold"])
def test_a_threshold_that_is_no_number_is_refused(name):
    with pytest.raises(UserError, match=f"{name} must be a finite number, got nan"):
        evaluate(*corpus(0), **{name: float("nan")})

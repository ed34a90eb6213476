"""The published protocol against what the published code wrote."""

import json

import pytest

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.f1 import f1_matched_pairs
from ablate_kit.metrics.giou import published_giou
from ablate_kit.metrics.matching import hungarian_pairs, published_pairs
from tests.ablate_kit.made_up import detections_of

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def corpus(shared):
    data = shared / "data"
    annotations = (data / "coco/annotations/instances_val2017.json").read_text()
    results = data / "detections/deimv2_coco/detections_val2017_deimv2_atto_results.json"
    truth = GroundTruth.from_coco(json.loads(annotations))
    return truth, detections_of(json.loads(results.read_text()), truth)


@pytest.fixture(scope="module")
def recorded(shared):
    folder = shared / "peers/deep_dissect/metrics_deimv2_atto_val206"
    return {
        name: json.loads((folder / f"{name}_result_0.json").read_text())
        for name in (
            "bbox_regression_gt_pred_average_giou_overall",
            "bbox_regression_gt_pred_average_giou_per_class",
            "f1_score_classification_overall",
            "f1_score_classification_per_class",
        )
    }


def defined(classes, values):
    return {name: value for name, value in zip(classes, values, strict=True) if value == value}


def test_f1_over_matched_pairs(corpus, recorded):
    truth, found = corpus
    result = f1_matched_pairs(truth, found, published_pairs(truth, found))
    overall = recorded["f1_score_classification_overall"]["Overall_F1_Score"]
    assert overall == 0.6130415388735699
    assert result.overall == pytest.approx(overall, abs=TOLERANCE)
    per_class = recorded["f1_score_classification_per_class"]
    assert defined(truth.classes, result.per_class) == pytest.approx(per_class, abs=TOLERANCE)


def test_mean_giou(corpus, recorded):
    truth, found = corpus
    result = published_giou(truth, found, published_pairs(truth, found))
    overall = recorded["bbox_regression_gt_pred_average_giou_overall"]["average_giou"]
    assert overall == 0.5155296667724487
    assert result.overall == pytest.approx(overall, abs=TOLERANCE)
    per_class = recorded["bbox_regression_gt_pred_average_giou_per_class"]
    assert len(per_class) == 76
    assert defined(truth.classes, result.per_class) == pytest.approx(per_class, abs=TOLERANCE)


def test_double_precision_pairs_agree_but_for_rounding(corpus):
    truth, found = corpus
    single = published_giou(truth, found, published_pairs(truth, found))
    double = published_giou(truth, found, hungarian_pairs(truth, found, include_ignored=True))
    assert double.per_class == pytest.approx(single.per_class, abs=1e-6, nan_ok=True)
    assert double.overall != single.overall

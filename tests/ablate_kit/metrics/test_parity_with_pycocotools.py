"""AP and greedy matches against pycocotools: bit for bit, on random and on real data."""

import contextlib
import copy
import dataclasses
import gzip
import io
import json
from collections import Counter

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.matching import Outcome, greedy_matches
from tests.ablate_kit.made_up import detections_of

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
SEEDS = range(60)


def corpus(seed):
    """A small data set with results: COCO JSON objects."""
    rng = np.random.default_rng(seed)
    decimals = int(rng.choice([0, 1, 2, 8]))
    image_ids = rng.permutation(100)[: rng.integers(1, 12)].tolist()
    category_ids = (rng.permutation(90)[: rng.integers(1, 7)] + 1).tolist()

    def any_box():
        size = rng.choice([3, 30, 100, 300]) * rng.uniform(0.3, 1.2, 2)
        return np.concatenate([rng.uniform(0, 300, 2), size]).round(decimals)

    annotations = []
    for image in image_ids:
        for _ in range(rng.integers(0, 15)):
            box = any_box().tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice(category_ids)),
                    "bbox": box,
                    "area": box[2] * box[3] * float(rng.choice([1, 0.7])),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
    rng.shuffle(annotations)
    results = []
    for image in image_ids:
        truths = [row for row in annotations if row["image_id"] == image]
        digits = int(rng.choice([1, 2, 6]))
        for _ in range(rng.integers(0, rng.choice([1, 40, 400]))):
            box, category = any_box(), int(rng.choice(category_ids))
            if truths and rng.random() < 0.7:
                truth = truths[rng.integers(len(truths))]
                box = np.array(truth["bbox"])
                box += (rng.normal(0, 0.1, 4) * np.tile(box[2:], 2)).round(decimals)
                category = truth["category_id"] if rng.random() < 0.85 else category
            results.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": box.tolist(),
                    "score": float(rng.random().__round__(digits)),
                }
            )
    rng.shuffle(results)
    images = [{"id": image, "width": 640, "height": 480} for image in image_ids]
    categories = [{"id": category, "name": f"class {category}"} for category in category_ids]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def pycocotools_evaluation(dataset, results):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(dataset)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def assert_bit_equal(dataset, results):
    theirs = pycocotools_evaluation(dataset, results)
    truth = GroundTruth.from_coco(dataset)
    detections = detections_of(results, truth)
    ours = average_precision(truth, detections)

    overall = np.array([ours.overall[key] for key in KEYS])
    np.testing.assert_array_equal(np.nan_to_num(overall, nan=-1), theirs.stats)
    for index, category in enumerate(truth.category_ids):
        curves = theirs.eval["precision"][:, :, theirs.params.catIds.index(category), 0, 2]
        for value, curve in ((ours.ap[index], curves), (ours.ap50[index], curves[0])):
            assert np.isnan(value) if (curve == -1).all() else value == curve[curve > -1].mean()

    matches = greedy_matches(truth, detections)
    matched_id = np.where(matches.truth < 0, 0, truth.ids[matches.truth])
    ignored = matches.outcome == Outcome.IGNORED
    expected_id, expected_ignored = np.zeros(len(results)), np.ones(len(results), dtype=bool)
    for image in theirs.evalImgs:
        if image is not None and image["aRng"] == theirs.params.areaRng[0]:
            index = np.array(image["dtIds"], dtype=int) - 1
            expected_id[index] = image["dtMatches"][0]
            expected_ignored[index] = image["dtIgnore"][0]
    np.testing.assert_array_equal(matched_id, expected_id)
    np.testing.assert_array_equal(ignored, expected_ignored)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_corpora(seed):
    dataset, results = corpus(seed)
    if dataset["annotations"] and results:  # neither pycocotools nor from_coco reads an empty list
        assert_bit_equal(dataset, results)


def test_the_random_corpora_hold_the_hard_cases():
    seen = Counter()
    for seed in SEEDS:
        dataset, results = corpus(seed)
        images = {row["id"] for row in dataset["images"]}
        crowds = [row for row in dataset["annotations"] if row["iscrowd"]]
        cells = Counter((row["image_id"], row["category_id"]) for row in results)
        seen["crowd"] += bool(crowds)
        seen["score ties"] += len({row["score"] for row in results}) < len(results)
        seen["class without ground truth"] += {row["id"] for row in dataset["categories"]} > {
            row["category_id"] for row in dataset["annotations"]
        }
        seen["image without ground truth"] += images > {
            row["image_id"] for row in dataset["annotations"]
        }
        seen["image without detections"] += images > {row["image_id"] for row in results}
        seen["more than 100 detections"] += max(cells.values(), default=0) > 100
        seen["tiny boxes"] += any(min(row["bbox"][2:]) < 2 for row in results)
    assert len(seen) == 7
    assert min(seen.values()) >= 5, seen


@pytest.mark.parametrize(
    "box",
    [
        [191.1, 80.9, 6.4, 11.2],
        [257.2, 10.1, 30.5, 22.2],
        [145.8, 266.8, 37.7, 35.0],
        [171.5, 96.6, 25.8, 33.6],
    ],
)
def test_boxes_at_exactly_half_overlap(box):
    """Width and height decide by their last bit, which corners cannot hold: (x + w) - x != w."""
    dataset = {
        "images": [{"id": 1}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 400.0, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    upper_half = [*box[:3], box[3] / 2]
    results = [{"image_id": 1, "category_id": 1, "bbox": upper_half, "score": 1.0}]
    assert_bit_equal(dataset, results)

    truth = GroundTruth.from_coco(dataset)
    exact = detections_of(results, truth)
    corners = dataclasses.replace(exact, sizes=None)
    truth_corners = dataclasses.replace(truth, sizes=None)
    assert greedy_matches(truth, exact).outcome != greedy_matches(truth_corners, corners).outcome


def test_boxes_of_negative_and_of_absurd_size():
    dataset, results = corpus(3)
    for row in results[::3]:
        row["bbox"][3] *= -1
    for row in results[::6]:
        row["bbox"][2] *= -1
    for row in results[1::6]:
        row["bbox"][2:] = [1e6, 1e6]
    assert_bit_equal(dataset, results)


def read(path):
    with gzip.open(path) if path.suffix == ".gz" else path.open() as file:
        return json.load(file)


def test_the_published_numbers_of_the_coco_api(shared):
    folder = shared / "data/detections/cocoapi_fake100"
    dataset = read(folder / "instances_val2014_100.json")
    results = read(folder / "instances_val2014_fakebbox100_results.json")
    truth = GroundTruth.from_coco(dataset)
    ours = average_precision(truth, detections_of(results, truth)).overall
    # cocoapi, results/val2014_fake_eval_res.txt, type=bbox
    published = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564]
    assert [round(ours[key], 3) for key in KEYS] == published
    assert_bit_equal(dataset, results)


def test_a_real_transformer_on_coco(shared):
    dataset = read(shared / "data/coco/annotations/instances_val2017.json")
    folder = shared / "data/detections/deimv2_coco"
    results = read(folder / "detections_val2017_deimv2_atto_results.json")
    truth = GroundTruth.from_coco(dataset)
    ours = average_precision(truth, detections_of(results, truth)).overall
    assert ours == read(folder / "detections_val2017_deimv2_atto_cocoeval_stats.json")
    assert_bit_equal(dataset, results)


def test_a_real_yolo_on_voc(shared):
    folder = shared / "data/detections/voc2007_test"
    truth = GroundTruth.from_coco(read(folder / "instances_voc2007_test.json.gz"))
    results = read(folder / "yolov2_a/coco_results.json.gz")
    ours = average_precision(truth, detections_of(results, truth)).overall
    recorded = read(folder / "yolov2_a/cocoeval_stats.json")
    assert ours == {key: recorded[key] for key in KEYS}


@pytest.mark.parametrize("ious", [[0.3], [0.5, 0.9], [0.1, 0.35, 0.75]])
@pytest.mark.parametrize("limit", [20, 100, 300])
def test_any_iou_list_and_limit(ious, limit):
    for seed in range(0, 60, 4):
        dataset, results = corpus(seed)
        if not dataset["annotations"] or not results:
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = copy.deepcopy(dataset)
            truth.createIndex()
            theirs = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "bbox")
            theirs.params.iouThrs, theirs.params.maxDets = np.array(ious), [1, 10, limit]
            theirs.evaluate()
            theirs.accumulate()
        ground_truth = GroundTruth.from_coco(dataset)
        detections = detections_of(results, ground_truth)
        limited = dataclasses.replace(ground_truth, max_detections=limit)
        ours = average_precision(limited, detections, ious=ious)
        precision = theirs.eval["precision"][:, :, :, 0, 2]
        for i, iou in enumerate(ious):
            defined = precision[i][precision[i] > -1]
            expected = defined.mean() if len(defined) else np.nan
            np.testing.assert_allclose(ours.at_iou[iou], expected, rtol=1e-12)
        defined = precision[precision > -1]
        assert ours.overall["AP"] == (defined.mean() if len(defined) else pytest.approx(np.nan))
        recall = theirs.eval["recall"][:, :, 0, 2]
        if (recall > -1).any():
            assert ours.overall["AR100"] == recall[recall > -1].mean()


def test_annotation_id_0_is_an_object_like_others():
    """pycocotools takes a match with id 0 for none; with ids from 1 it says what we say."""
    dataset, results = corpus(5)
    expected = pycocotools_evaluation(dataset, results).stats
    for row in dataset["annotations"]:
        row["id"] -= 1
    assert pycocotools_evaluation(dataset, results).stats[0] < expected[0]
    truth = GroundTruth.from_coco(dataset)
    ours = average_precision(truth, detections_of(results, truth)).overall
    np.testing.assert_array_equal([ours[key] for key in KEYS], expected)


@pytest.mark.parametrize("side", [1e-160, 1e-170])
def test_boxes_whose_areas_vanish_overlap_by_nothing(side):
    """The square of 1e-160 is above the least float64, that of 1e-170 is 0."""
    box = {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, side, side]}
    dataset = {
        "images": [{"id": 1, "width": 9, "height": 9}],
        "annotations": [box | {"id": 1, "area": 1.0, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a"}],
    }
    results = [box | {"score": 0.5}]
    assert pycocotools_evaluation(dataset, results).stats[0] == pytest.approx(1.0)
    truth = GroundTruth.from_coco(dataset)
    ours = average_precision(truth, detections_of(results, truth)).overall["AP"]
    assert ours == pytest.approx(1.0 if side * side else 0.0)

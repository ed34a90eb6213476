"""VOC's AP against recorded values of the devkit's rule, and against a naive loop."""

import gzip
import json

import numpy as np
import pytest

from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.voc_ap import voc_ap
from ablate_kit.models.labels.annotations import read_annotations
from tests.ablate_kit.made_up import truth_of

# The JSON file rounds boxes to 0.01 pixel: a car whose IoU with a difficult one comes out as 0.5001
# is ignored, and was a false positive in the devkit's file.
CAR = 1.5e-5


def in_recorded_order(found):
    """Ties of score in the order in which NumPy's unstable sort had them in the recorded run."""
    order = np.concatenate(
        [rows[np.argsort(-found.scores[rows])]
         for label in np.unique(found.labels)
         for rows in [np.flatnonzero(found.labels == label)]]
    )  # fmt: skip
    return found.rows(order)


@pytest.mark.parametrize(
    ("dump", "map07"), [("yolov2_a/coco_results.json.gz", 0.7466), ("yolov2_b", 0.7214)]
)
def test_real_dumps(shared, dump, map07):
    folder = shared / "data/detections/voc2007_test"
    against = read_annotations(folder / "instances_voc2007_test.json.gz")
    expected = json.loads((folder / "expected_ap.json").read_text())[dump.split("/")[0]]
    detections = in_recorded_order(read_dump(folder / dump, against)[0])
    found = voc_ap(against.truth, detections)
    assert round(found.map07, 4) == map07
    assert found.map07 == pytest.approx(expected["mAP07"], abs=1e-6)
    assert found.map == pytest.approx(expected["mAP_area"], abs=1e-6)
    assert len(expected["classes"]) == 20
    for i, name in enumerate(against.truth.classes):
        one = expected["classes"][name]
        assert found.support[i] == one["npos"]
        assert found.ap07[i] == pytest.approx(one["ap07"], abs=1e-6), name
        tolerance = CAR if (dump, name) == ("yolov2_a/coco_results.json.gz", "car") else 1e-6
        assert found.ap[i] == pytest.approx(one["ap_area"], abs=tolerance), name
        assert found.recall[i] == pytest.approx(one["max_recall"], abs=1e-6), name


def naive(truth, found, label):
    """The devkit's loop, box by box."""
    rows = [d for d in range(len(found)) if found.labels[d] == label]
    rows.sort(key=lambda d: -found.scores[d])
    taken, outcome = set(), []
    for d in rows:
        best, at = 0.0, None
        for g in range(len(truth)):
            if truth.image[g] == found.image[d] and truth.labels[g] == label:
                x1, y1 = np.maximum(truth.boxes[g, :2], found.boxes[d, :2])
                x2, y2 = np.minimum(truth.boxes[g, 2:], found.boxes[d, 2:])
                inter = max(x2 - x1, 0) * max(y2 - y1, 0)
                areas = [np.prod(b[2:] - b[:2]) for b in (truth.boxes[g], found.boxes[d])]
                if inter / (sum(areas) - inter) > best:
                    best, at = inter / (sum(areas) - inter), g
        if best > 0.5 and truth.ignore[at]:
            continue
        outcome.append(best > 0.5 and at not in taken)
        taken.add(at) if best > 0.5 else None
    npos = sum(1 for g in range(len(truth)) if truth.labels[g] == label and not truth.ignore[g])
    if npos == 0:
        return np.nan, np.nan
    points = [(sum(outcome[: i + 1]) / npos, sum(outcome[: i + 1]) / (i + 1))
              for i in range(len(outcome))]  # fmt: skip
    eleven = np.mean([max((p for r, p in points if r >= t * 0.1), default=0) for t in range(11)])
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(p for _, p in points[i:])
        before = recall
    return eleven, area


@pytest.mark.parametrize("seed", range(25))
def test_a_naive_loop(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 25), rng.integers(0, 60)

    def boxes(count):
        corner = rng.integers(0, 30, (count, 2))
        return np.concatenate([corner, corner + rng.integers(5, 30, (count, 2))], 1).astype(float)

    truth = truth_of(
        np.sort(rng.integers(0, 4, n)), boxes(n), rng.integers(0, 3, n), images=4, classes="abc",
        side=60, ignore=rng.random(n) < 0.2,
    )  # fmt: skip
    found = Detections(
        image=rng.integers(0, 4, m), boxes=boxes(m), scores=rng.random(m).round(1),
        labels=rng.integers(0, 3, m),
    )  # fmt: skip
    near = rng.random(m) < 0.6
    source = rng.integers(0, n, m)
    found.image[near], found.labels[near] = truth.image[source[near]], truth.labels[source[near]]
    found.boxes[near] = truth.boxes[source[near]] + rng.integers(-3, 4, (near.sum(), 4))
    ours = voc_ap(truth, found)
    for label in range(3):
        eleven, area = naive(truth, found, label)
        assert ours.ap07[label] == pytest.approx(eleven, abs=1e-12, nan_ok=True)
        assert ours.ap[label] == pytest.approx(area, abs=1e-12, nan_ok=True)


def test_difficult_objects_count_neither_way(shared):
    folder = shared / "data/detections/voc2007_test"
    text = gzip.decompress((folder / "instances_voc2007_test.json.gz").read_bytes())
    marked = sum(bool(one["difficult"]) for one in json.loads(text)["annotations"])
    against = read_annotations(folder / "instances_voc2007_test.json.gz")
    assert against.truth.ignore.sum() == marked > 1000
    kept = read_annotations(folder / "instances_voc2007_test.json.gz", "keep")
    found = read_dump(folder / "yolov2_b", against)[0]
    assert voc_ap(kept.truth, found).map07 < voc_ap(against.truth, found).map07 - 0.03

"""The notebooks' mAP on the toy cases that its description works out by hand."""

import dataclasses

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.thesis_map import thesis_map


def truth(boxes, labels=None, size=(100, 100), classes=1, ignore=False):
    n = len(boxes)
    return GroundTruth(
        image_ids=np.array([1]), widths=np.array(size[:1]), heights=np.array(size[1:]),
        image=np.zeros(n, dtype=int), boxes=np.array(boxes, dtype=float),
        labels=np.array(labels or [0] * n), ignore=np.full(n, ignore), areas=np.full(n, 2500.0),
        ids=np.arange(n), classes=tuple(map(str, range(classes))),
        category_ids=tuple(range(classes)),
    )  # fmt: skip


def found(boxes, scores, labels=None):
    n = len(boxes)
    return Detections(
        image=np.zeros(n, dtype=int), boxes=np.array(boxes, dtype=float).reshape(-1, 4),
        scores=np.array(scores, dtype=float), labels=np.array(labels or [0] * n, dtype=int),
    )  # fmt: skip


BOX = [10, 10, 60, 60]


def test_the_taken_object_is_asked_for_again():
    two, both = truth([BOX, BOX]), found([BOX, BOX], [0.9, 0.8])
    assert average_precision(two, both).overall["AP"] == 1
    assert thesis_map(two, both).map_50_95 == pytest.approx(51 / 101)  # 0.505


def test_absent_classes_count_as_zero_in_one_number_only():
    result = thesis_map(truth([BOX], classes=20), found([BOX], [0.9]))
    assert (result.map_50_95, result.map_50) == pytest.approx((0.05, 1.0))


def test_a_perfect_result_of_every_class_is_1():
    boxes = [[i, i, i + 40, i + 40] for i in range(20)]
    everything = truth(boxes, labels=list(range(20)), classes=20)
    result = thesis_map(everything, found(boxes, [0.9] * 20, list(range(20))))
    assert (result.map_50_95, result.map_50) == (1, 1)


def test_scores_under_the_floor_are_left_out():
    assert thesis_map(truth([BOX]), found([BOX], [0.049])).map_50 == 0
    assert thesis_map(truth([BOX]), found([BOX], [0.05])).map_50 == 1


def test_at_most_100_detections_of_an_image_whatever_their_class():
    others = [[0, 0, 5, 5]] * 100
    crowd = found([*others, BOX], [0.9] * 100 + [0.5], [1] * 100 + [0])
    assert thesis_map(truth([BOX], classes=2), crowd).map_50 == 0
    assert thesis_map(truth([BOX], classes=2), found(crowd.boxes[1:], crowd.scores[1:],
                      crowd.labels[1:].tolist())).map_50 == 1  # fmt: skip


def test_difficult_objects_are_ordinary_ones():
    assert thesis_map(truth([BOX], ignore=True), found([BOX], [0.9])).map_50 == 1


def test_small_objects_are_left_out_or_enlarged():
    narrow = [50, 50, 51.5, 90]  # 1.5 of 100 wide, of a side of 1000: 0.15 % of the square
    image = truth([narrow, BOX], size=(100, 1000))
    wide = [50.75 - 5, 50, 50.75 + 5, 90]
    assert thesis_map(image, found([wide, BOX], [0.9, 0.8])).map_50_95 == 1
    tiny = truth([[50, 50, 50.9, 90], BOX])
    assert thesis_map(tiny, found([BOX], [0.9])).map_50_95 == 1


def test_images_of_unknown_size_are_refused():
    with pytest.raises(UserError, match="needs the size of every image; image 1 has none"):
        thesis_map(dataclasses.replace(truth([BOX]), widths=np.array([0])), found([BOX], [0.9]))

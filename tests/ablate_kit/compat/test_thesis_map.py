"""The notebooks' mAP on the toy cases that its description works out by hand."""

import dataclasses

import numpy as np
import pytest

from ablate_kit.compat.notebooks.thesis_map import thesis_map
from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.detections import Detections
from tests.ablate_kit.made_up import found_of, overlap, truth_of


def truth(boxes, labels=None, size=(100, 100), classes=1, ignore=False):
    n = len(boxes)
    return truth_of(
        np.zeros(n), boxes, labels or [0] * n, classes=list(map(str, range(classes))),
        widths=np.array(size[:1]), heights=np.array(size[1:]), ignore=np.full(n, ignore),
        areas=np.full(n, 2500.0),
    )  # fmt: skip


def found(boxes, scores, labels=None):
    nothing = [0] * len(boxes)
    return found_of(nothing, boxes, scores, labels or nothing)


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
    assert thesis_map(truth([BOX]), found([BOX], [0.05])).map_50 == 0  # "above 0.05"
    assert thesis_map(truth([BOX]), found([BOX], [np.nextafter(0.05, 1)])).map_50 == 1
    narrow = dataclasses.replace(found([BOX], [0]), scores=np.array([0.05], dtype=np.float32))
    assert thesis_map(truth([BOX]), narrow).map_50 == 0


def test_boxes_end_at_the_letterboxed_square():
    at_the_edge = truth([[60, 10, 100, 60]])
    assert thesis_map(at_the_edge, found([[60, 10, 180, 60]], [0.9])).map_50_95 == 1
    # 100 x 50: the square begins 25 pixels above the image and ends 25 pixels below it
    wide = truth([[10, 0, 60, 50]], size=(100, 50))
    inside = thesis_map(wide, found([[10, -25, 60, 50]], [0.9]))
    assert inside == thesis_map(wide, found([[10, -400, 60, 50]], [0.9]))
    assert inside.map_50_95 == 4 / 10  # IoU 50 / 75: at 0.5, 0.55, 0.6, 0.65


def naive(truth, detections):
    """The description, read line by line: shares of the square, one detection after another."""
    side = np.maximum(truth.widths, truth.heights).astype(float)
    pad = (side[:, None] - np.stack([truth.widths, truth.heights], axis=1)) / 2 / side[:, None]
    objects = {}
    for box, label, image in zip(truth.boxes, truth.labels, truth.image, strict=True):
        size = np.array([truth.widths[image], truth.heights[image]])
        extent = box[2:] - box[:2]
        if (extent <= 0).any() or (extent < 0.01 * size).any():
            continue
        center = (box[:2] + box[2:]) / 2 / side[image] + pad[image]
        extent = np.maximum(np.minimum(extent / side[image], 1), 0.01)
        center = np.minimum(np.maximum(center, extent / 2), 1 - extent / 2)
        corners = [*(center - extent / 2), *(center + extent / 2)]
        objects.setdefault((image, label), []).append(corners)
    gathered = []
    for image in range(len(truth.image_ids)):
        rows = [i for i in np.flatnonzero(detections.image == image) if detections.scores[i] > 0.05]
        best = sorted(rows, key=lambda i: -detections.scores[i])[:100]
        for i in sorted(best):
            box = detections.boxes[i] / side[image] + np.tile(pad[image], 2)
            label, score = detections.labels[i], detections.scores[i]
            gathered.append((image, label, score, np.clip(box, 0, 1)))
    table = []
    for iou in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        row = []
        for label in range(len(truth.classes)):
            count = sum(len(found) for (_, of), found in objects.items() if of == label)
            taken, hits, points = set(), 0, [(0.0, 0.0)]
            mine = sorted((d for d in gathered if d[1] == label), key=lambda d: -d[2])
            for rank, (image, _, _, box) in enumerate(mine, start=1):
                overlaps = [overlap(box, other) for other in objects.get((image, label), [])]
                best = int(np.argmax(overlaps)) if overlaps else -1
                if overlaps and overlaps[best] >= iou and (image, best) not in taken:
                    taken.add((image, best))
                    hits += 1
                points.append((hits / count if count else 0.0, hits / rank))
            points.append((1.0, 0.0))
            recalls = np.linspace(0, 1, 101)
            row.append(np.mean([max(p for r, p in points if r >= at) for at in recalls]))
        table.append(row)
    table = np.array(table)
    support = [any(of == label for _, of in objects) for label in range(len(truth.classes))]
    return table.mean(), table[0, support].mean()


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_naive_reading_to_the_last_digit(seed):
    rng = np.random.default_rng(seed)
    images, objects, classes = 6, 40, 4
    widths, heights = rng.integers(60, 300, images), rng.integers(60, 300, images)
    size = np.stack([widths, heights], axis=1)
    image = np.sort(rng.integers(0, images, objects))
    corner = rng.uniform(-0.05, 0.7, (objects, 2)) * size[image]
    extent = rng.uniform(0.005, 0.5, (objects, 2)) * size[image]
    labels = rng.integers(0, classes - 1, objects)  # the last class has none
    against = truth_of(
        image, np.concatenate([corner, corner + extent], axis=1), labels, images=images,
        classes="abcd", widths=widths, heights=heights, ignore=rng.random(objects) < 0.2,
    )  # fmt: skip
    source = rng.permutation(np.repeat(np.arange(objects), 20))  # images in any order, > 100 each
    boxes = against.boxes[source] + rng.normal(0, 6, (len(source), 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    scores = rng.integers(0, 101, len(source)) / 100  # many ties, some of exactly 0.05
    detections = Detections(
        image[source], boxes, scores, labels[source],
        sizes=boxes[:, 2:] - boxes[:, :2] if seed % 2 else None,
    )  # fmt: skip
    result = thesis_map(against, detections)
    assert 0 < result.map_50_95 < result.map_50
    assert (result.map_50_95, result.map_50) == naive(against, detections)


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
    with pytest.raises(UserError, match="needs the size of every image; image 0 has none"):
        thesis_map(dataclasses.replace(truth([BOX]), widths=np.array([0])), found([BOX], [0.9]))

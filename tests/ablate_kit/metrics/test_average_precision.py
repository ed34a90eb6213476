import dataclasses

import numpy as np
import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.detections import Detections, GroundTruth


def annotation(identifier, image=1, category=1, box=(10, 10, 50, 50)):
    return {"id": identifier, "image_id": image, "category_id": category, "bbox": list(box)}


def ground_truth(annotations, images=(1, 2), categories=(1, 2)):
    return GroundTruth.from_coco(
        {
            "images": [{"id": image} for image in images],
            "annotations": annotations,
            "categories": [{"id": category, "name": f"c{category}"} for category in categories],
        }
    )


def found(truth, scores=None):
    """Every ground truth, found exactly."""
    scores = np.ones(len(truth)) if scores is None else scores
    return Detections(truth.image, truth.boxes, scores, truth.labels, truth.sizes)


NOTHING = Detections.concatenate([])


def test_finding_everything_exactly_is_worth_one():
    truth = ground_truth([annotation(1), annotation(2, image=2, category=2)])
    result = average_precision(truth, found(truth))
    assert (result.overall["AP"], result.overall["AR100"]) == pytest.approx((1, 1))
    assert result.ap == pytest.approx([1, 1])
    assert result.ap50 == pytest.approx([1, 1])


def test_a_class_without_ground_truth_does_not_count():
    truth = ground_truth([annotation(1)])
    elsewhere = Detections.concatenate(
        [found(truth), dataclasses.replace(found(truth), labels=np.array([1]))]
    )
    result = average_precision(truth, elsewhere)
    assert result.overall["AP"] == pytest.approx(1)
    assert np.isnan(result.ap[1])
    assert np.isnan(result.ap50[1])


def test_annotation_ids_play_no_part():
    """pycocotools takes a match with annotation id 0 for no match."""
    boxes = [annotation(0), annotation(1, image=2), annotation(2, category=2)]
    truth = ground_truth(boxes)
    renumbered = ground_truth([row | {"id": row["id"] + 5} for row in boxes])
    zero, five = (average_precision(each, found(each)).overall for each in (truth, renumbered))
    np.testing.assert_equal(zero, five)
    assert zero["AP"] == pytest.approx(1)


def test_ids_may_be_any_integers_in_any_order():
    rng = np.random.default_rng(0)
    boxes = [
        annotation(i, int(rng.integers(1, 3)), int(rng.integers(1, 3)), rng.uniform(0, 99, 4))
        for i in range(1, 30)
    ]
    scores = rng.random(29)
    ids = {1: -7, 2: 2**40}
    moved = [row | {"image_id": ids[row["image_id"]]} for row in boxes]
    plain, odd = (
        average_precision(truth, found(truth, scores[truth.ids - 1]))
        for truth in (ground_truth(boxes), ground_truth(moved, (2**40, -7), (2, 1)))
    )
    np.testing.assert_equal(plain.overall, odd.overall)
    np.testing.assert_array_equal(plain.ap, odd.ap[::-1])


def test_detections_for_another_ground_truth_are_refused():
    truth = ground_truth([annotation(1)])
    with pytest.raises(UserError, match="image index 2; expected 0 to 1"):
        average_precision(truth, dataclasses.replace(found(truth), image=np.array([2])))

"""Boxes that fit objects under the names of other classes are told from a detector that errs."""

import json

import numpy as np
import pytest

from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.renumbered_classes import renumbered
from ablate_kit.models.labels.annotations import read_annotations
from tests.ablate_kit.made_up import found_of, truth_of

CLASSES = ("disc", "square", "ring", "cross", "star")
LABELS = np.arange(100) % 5


def of(labels, scores=None):
    """A box on each object of an image, with these labels."""
    corners = np.stack(np.divmod(np.arange(100), 10), axis=1) * 50.0
    boxes = np.concatenate([corners, corners + 40], axis=1)
    truth = truth_of(np.zeros(100), boxes, LABELS, classes=CLASSES, side=500)
    count = len(labels)
    scores = np.full(count, 0.5) if scores is None else scores
    return renumbered(truth, found_of(np.zeros(count), boxes[:count], scores, labels))


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        np.where(np.arange(100) < 70, (LABELS + 1) % 5, LABELS),  # a third is right
        np.zeros(100, dtype=int),  # it knows one class alone
        np.random.default_rng(0).permutation(LABELS),
        (LABELS[:49] + 1) % 5,  # too few to tell
        LABELS[:0],
    ],
)
def test_of_other_detections_nothing_is_said(labels):
    assert of(labels) == []


def test_classes_off_by_one_are_said_with_those_that_most_objects_have():
    (note,) = of((LABELS + 1) % 5)
    assert note == (
        "the classes seem to be counted otherwise than in the annotations: of 100 boxes that fit "
        'an object 0 have its class, and most others the same wrong one ("square" on "disc", '
        '"ring" on "square", "cross" on "ring")'
    )


def test_score_says_it_of_a_file(tmp_path):
    boxes = [[50 * (k % 10), 50 * (k // 10), 40, 40] for k in range(100)]
    path = tmp_path / "annotations.json"
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "width": 500, "height": 500}],
                "annotations": [
                    {"id": k, "image_id": 1, "category_id": k % 5, "bbox": box}
                    for k, box in enumerate(boxes)
                ],
                "categories": [{"id": k, "name": name} for k, name in enumerate(CLASSES)],
            }
        )
    )
    rows = [
        {"image_id": 1, "category_id": (k + 1) % 5, "bbox": box, "score": 0.5}
        for k, box in enumerate(boxes)
    ]
    found = tmp_path / "results.json"
    found.write_text(json.dumps(rows))
    _, notes = read_dump(found, read_annotations(path))
    assert "the classes seem to be counted otherwise" in notes[0]

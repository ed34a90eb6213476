"""The first images of a data set."""

from dataclasses import replace

import numpy as np
import pytest

from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.first_images import found_in, truth_of_first
from tests.ablate_kit.made_up import found_of, truth_of


def truth() -> GroundTruth:
    return truth_of(
        [0, 0, 2, 3], np.tile([0, 0, 5, 5], (4, 1)), [0, 1, 0, 1], images=4, classes="ab", side=10,
        image_ids=np.array([7, 5, 9, 1]), max_detections=50,
    )  # fmt: skip


@pytest.mark.parametrize(("images", "objects"), [(1, 2), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_their_annotations(images: int, objects: int) -> None:
    first = truth_of_first(truth(), images)
    assert first.image_ids.tolist() == [7, 5, 9, 1][:images]
    assert first.ids.tolist() == [1, 2, 3, 4][:objects]
    assert first.max_detections == 50


def test_their_detections() -> None:
    boxes, scores = [[0, 0, 5, 5]] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]
    found = found_of([3, 0, 1, 2, 0], boxes, scores, [0] * 5)
    inside = found_in(replace(found, queries=np.arange(5)), 1, 3)
    assert inside.image.tolist() == [1, 2]
    assert inside.scores.tolist() == [0.3, 0.4]
    assert inside.queries is not None
    assert inside.queries.tolist() == [2, 3]
    assert inside.sizes is None

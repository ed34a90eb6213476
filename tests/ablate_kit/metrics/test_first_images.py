"""The first images of a data set."""

import numpy as np
import pytest

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.first_images import found_in, truth_of_first


def truth() -> GroundTruth:
    image = np.array([0, 0, 2, 3])
    return GroundTruth(
        image_ids=np.array([7, 5, 9, 1]),
        widths=np.full(4, 10),
        heights=np.full(4, 10),
        image=image,
        boxes=np.tile([0.0, 0.0, 5.0, 5.0], (4, 1)),
        labels=np.array([0, 1, 0, 1]),
        ignore=np.zeros(4, dtype=bool),
        areas=np.full(4, 25.0),
        ids=np.arange(1, 5),
        classes=("a", "b"),
        category_ids=(1, 2),
        max_detections=50,
    )


@pytest.mark.parametrize(("images", "objects"), [(1, 2), (2, 2), (3, 3), (4, 4), (9, 4)])
def test_their_annotations(images: int, objects: int) -> None:
    first = truth_of_first(truth(), images)
    assert first.image_ids.tolist() == [7, 5, 9, 1][:images]
    assert first.ids.tolist() == [1, 2, 3, 4][:objects]
    assert first.max_detections == 50


def test_their_detections() -> None:
    found = Detections(
        image=np.array([3, 0, 1, 2, 0]),
        boxes=np.tile([0.0, 0.0, 5.0, 5.0], (5, 1)),
        scores=np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
        labels=np.zeros(5, dtype=int),
        queries=np.arange(5),
    )
    inside = found_in(found, 1, 3)
    assert inside.image.tolist() == [1, 2]
    assert inside.scores.tolist() == [0.3, 0.4]
    assert inside.queries is not None
    assert inside.queries.tolist() == [2, 3]
    assert inside.sizes is None

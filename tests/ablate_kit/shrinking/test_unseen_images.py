"""What is judged by images that did not choose it."""

from dataclasses import replace

import numpy as np
import pytest

from ablate_kit.models.truth import ground_truth
from ablate_kit.shrinking.variants import unseen_images
from detector.data.dataset import Dataset, limit
from detector.data.shapes import Shapes


def ids(dataset: Dataset) -> set[int]:
    return {dataset.annotations(i).image_id for i in range(len(dataset))}


@pytest.mark.parametrize(("seen", "expected"), [(4, 4), (10, 10), (13, 7), (14, None), (20, None)])
def test_as_many_others_as_a_run_has_seen(seen: int, expected: int | None) -> None:
    """Or all there are, unless they are fewer than half as many."""
    part = limit(Shapes(20), seen)
    others = unseen_images(part, ground_truth(part))
    assert (others and len(others)) == expected
    if others:
        assert not ids(others) & ids(part)


def test_others_of_the_same_clusters_tell_nothing_new() -> None:
    part = limit(Shapes(20), 4)
    truth = replace(ground_truth(part), clusters=np.arange(4) // 2)
    assert unseen_images(part, truth) is None

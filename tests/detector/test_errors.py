"""The nearest valid name."""

import pytest

from detector.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("limti", '; did you mean "limit"?'),
        ("val", '; did you mean "val_images" or "val_limit"?'),
        ("train", '; did you mean "train_annotations", "train_images" or "train_limit"?'),
        ("other", ""),
        ("", ""),
    ],
)
def test_the_nearest_or_those_that_begin_so(name: str, told: str) -> None:
    known = ["train_annotations", "train_images", "train_limit", "val_images", "val_limit", "limit"]
    assert did_you_mean(name, known) == told

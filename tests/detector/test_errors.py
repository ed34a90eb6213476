"""The nearest valid name."""

import pytest

from detector.errors import did_you_mean, nearest_or_all


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


def test_no_number_is_near_another() -> None:
    assert did_you_mean("70", ["7", "701"]) == ""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lft", '; did you mean "left"?'),
        ("up", "; there are left, right"),
        ("", "; there are left, right"),
    ],
)
def test_where_nothing_is_near_all_are_named(name: str, told: str) -> None:
    assert nearest_or_all(name, ["left", "right"]) == told


def test_of_many_a_dozen_is_named() -> None:
    told = nearest_or_all("up", map(str, range(20)))
    assert told.endswith("10, 11 and 8 more")

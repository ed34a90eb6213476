"""What is judged by images that did not choose it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate_kit.models.labels.own_objects import looked_at_for
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.shrinking.judged_on import unseen_images
from detector.data.dataset import Dataset, is_labelled, limit, notes_on, whole
from detector.data.formats.image_folder import ImageFolder
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


def image_folder(place: Path, count: int) -> ImageFolder:
    place.mkdir()
    for number in range(count):
        gray = Image.new("L", (8, 8), number)
        gray.save(place / f"{number}.png")
    return ImageFolder(place, "ignore")


def test_others_without_labels(tmp_path: Path) -> None:
    """They are looked at for a model's classes, and remain a part of all there are."""
    part = looked_at_for(limit(image_folder(tmp_path / "images", 10), 4), ["a"])
    assert part.classes == ("a",)
    assert not is_labelled(part)
    assert len(whole(part)) == 10
    others = unseen_images(part, ground_truth(part))
    assert others
    assert others.classes == ("a",)
    assert len(others) == 4
    assert not ids(others) & ids(part)
    more = looked_at_for(limit(part, 20), ["a"])
    assert notes_on(more) == ("20 images are asked for, and there are 4",)


def test_others_that_cannot_be_read_and_copies_are_passed_over(tmp_path: Path) -> None:
    place = tmp_path / "images"
    part = looked_at_for(limit(image_folder(place, 10), 4), ["a"])
    (place / "4.png").unlink()
    whole_file = (place / "5.png").read_bytes()
    (place / "5.png").write_bytes(whole_file[: len(whole_file) // 2])
    (place / "7.png").write_bytes((place / "0.png").read_bytes())
    others = unseen_images(part, ground_truth(part))
    assert others
    assert ids(others) == {6, 8, 9}
    for number in (6, 8):
        (place / f"{number}.png").unlink()
    assert unseen_images(part, ground_truth(part)) is None

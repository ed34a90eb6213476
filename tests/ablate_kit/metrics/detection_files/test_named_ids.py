"""Numbers that a file of results has from elsewhere are read by the names that stand beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.models.labels.annotations import read_annotations


def images(*files: str, first: int) -> list[dict[str, Any]]:
    return [
        {"id": i, "file_name": file, "width": 64, "height": 64}
        for i, file in enumerate(files, start=first)
    ]


ROWS = [
    {"image_id": image, "category_id": label, "bbox": [1, 2, 30, 40], "score": 0.5}
    for image, label in ((1, 1), (2, 2), (2, 1))
]
PREDICTED = {
    "images": images("photos/a.png", "photos/b.png", first=1),
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    truth = {
        "images": images("b.png", "a.png", first=1),
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 40]}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    }

    def read(beside: Any, **other: Any) -> Any:
        (tmp_path / "annotations.json").write_text(json.dumps(truth | other))
        (tmp_path / "results.json").write_text(json.dumps(ROWS))
        if beside is not None:
            text = beside if isinstance(beside, str) else json.dumps(beside)
            (tmp_path / "images.json").write_text(text)
        found, notes = read_dump(
            tmp_path / "results.json", read_annotations(tmp_path / "annotations.json")
        )
        return found.image.tolist(), found.labels.tolist(), notes

    return read


def test_images_and_classes_are_those_of_the_names(read: Any) -> None:
    assert read(None)[:2] == ([0, 1, 1], [0, 1, 0])
    image, labels, (note,) = read(PREDICTED)
    assert (image, labels) == ([1, 0, 0], [1, 0, 1])
    assert "results.json: images and classes by their names in " in note


@pytest.mark.parametrize(
    "other",
    [
        "", "[]", "{", "null", {"images": 3, "categories": [4]},
        {"images": images("a.png", first=2), "categories": [{"id": "1", "name": "cat"}]},
    ],
)  # fmt: skip
def test_a_file_that_does_not_name_them_all_is_of_something_else(read: Any, other: Any) -> None:
    assert read(other)[:2] == ([0, 1, 1], [0, 1, 0])


def test_names_that_the_annotations_lack_are_refused(read: Any) -> None:
    with pytest.raises(UserError, match=r"results.json\[0\]: image photos/a.png is not one of"):
        read(PREDICTED, images=images("b.png", "c.png", first=1))
    with pytest.raises(UserError, match=r"results.json\[0\]: category cat is not one of"):
        read(PREDICTED, categories=[{"id": 1, "name": "dog"}, {"id": 2, "name": "eel"}])

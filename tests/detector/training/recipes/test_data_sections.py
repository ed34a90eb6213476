"""Data sections: one way to name images, in recipes, by options and in what runs have noted."""

import json

import pytest
from pydantic import ValidationError

from detector.data.shapes import Shapes
from detector.training.recipes.data_sections import (
    CocoData,
    CocoImages,
    ShapesData,
    ShapesImages,
    VocData,
    VocImages,
    images_noted,
)


def test_training_and_validation_are_named_by_the_same_sections() -> None:
    voc = VocData(kind="voc", root="here", val_limit=3, difficult="keep", classes="names")
    common = {"root": "here", "difficult": "keep", "classes": "names"}
    assert voc.parts() == (
        VocImages(split="2007:trainval+2012:trainval", **common),
        VocImages(split="2007:test", limit=3, **common),
    )
    coco = CocoData(
        kind="coco", train_annotations="a", train_images="b", val_annotations="c", val_images="d",
        train_limit=2, exif="apply",
    )  # fmt: skip
    assert coco.parts() == (
        CocoImages(annotations="a", images="b", limit=2, exif="apply"),
        CocoImages(annotations="c", images="d", exif="apply"),
    )


def test_shapes_are_those_that_detectors_are_evaluated_on() -> None:
    _, validation = ShapesData(kind="shapes").datasets()
    named = ShapesImages(limit=3).dataset()
    assert (len(validation), len(named)) == (200, 3)
    assert [named.stored(i) for i in range(3)] == [validation.stored(i) for i in range(3)]
    assert named.stored(0) == Shapes(1, seed=1, split=1).stored(0)
    assert ShapesImages(part="train", seed=7).dataset().stored(0) == Shapes(1, seed=7).stored(0)


@pytest.mark.parametrize(
    "section",
    [
        ShapesImages(limit=3),
        CocoImages(annotations="a", images="b", exif="apply", limit=3),
        VocImages(root="r", limit=3),
    ],
)
def test_what_runs_have_noted_is_read(section: CocoImages | VocImages | ShapesImages) -> None:
    assert images_noted(json.loads(section.model_dump_json())) == section


@pytest.mark.parametrize("noted", [{}, {"kind": ["coco"]}, {"kind": "voc", "rot": "r"}])
def test_what_is_no_section_is_refused(noted: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        images_noted(noted)


def test_a_sample_is_drawn_from_the_first_images_and_a_larger_one_holds_it() -> None:
    def ids(**values: int) -> list[int]:
        dataset = ShapesImages(count=40, **values).dataset()
        return [dataset.annotations(i).image_id for i in range(len(dataset))]

    few, more = ids(sample=5), ids(sample=9)
    assert len(few) == 5
    assert set(few) < set(more)
    assert ids(sample=5) == few != ids(limit=5)
    assert ids(limit=3, sample=5) == ids(limit=3)

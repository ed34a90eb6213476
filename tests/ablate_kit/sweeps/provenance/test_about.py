"""The head of a report says which images there were, whatever was asked for."""

from importlib.metadata import version

import pytest
import torch

from ablate_kit.sweeps.provenance.about import About, in_words
from detector.data.dataset import notes_on
from detector.training.recipes.data_sections import ShapesImages
from tests.ablate_kit.small_sweeps import sweep_recipe


@pytest.mark.parametrize(
    ("limit", "drawn", "words"),
    [
        (None, None, ""),
        (50, None, ", the first 50 images"),
        (200, None, ", all 200 images"),
        (400, None, ", all 200 images"),
        (None, 30, ", 30 of 200 images drawn by lot"),
        (50, 30, ", the first 50 images, 30 of them drawn by lot"),
        (50, 60, ", the first 50 images"),
        (400, 300, ", all 200 images"),
    ],
)
def test_the_number_of_images_is_that_of_those_there_are(
    limit: int | None, drawn: int | None, words: str
) -> None:
    data = ShapesImages(limit=limit, sample=drawn)
    dataset = data.dataset()
    assert in_words(data, dataset).removeprefix("built-in shapes") == words
    assert bool(notes_on(dataset)) == ((limit or 0) > 200 or (drawn or 0) > (limit or 200))


@pytest.mark.parametrize(
    ("framework", "library"),
    [("hybrid", ""), ("transformers", "transformers"), ("transformers:folder", "transformers"),
     ("python:mine.py:build", "")],
)  # fmt: skip
def test_versions_are_those_of_what_runs_the_model(framework: str, library: str) -> None:
    pytest.importorskip("transformers")  # in this process, whatever runs
    recipe = sweep_recipe("model.safetensors", [{"kind": "modules", "pattern": ["neck"]}])
    found = About.of(recipe, recipe.dataset(), "ablate sweep", framework).versions
    assert found.get("transformers") == (version("transformers") if library else None)
    assert found["torch"] == torch.__version__  # with what it was built for, such as +cu130

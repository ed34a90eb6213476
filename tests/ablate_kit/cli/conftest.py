"""A small data set and a small sweep to run commands on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.data.shapes import Shapes


@pytest.fixture
def drawn() -> None:
    """For tests that look at pictures."""


@pytest.fixture(autouse=True)
def undrawn_unless_drawn(request: pytest.FixtureRequest) -> None:
    if "drawn" not in request.fixturenames:
        request.getfixturevalue("undrawn")


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three shapes images as a COCO data set."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("coco")
    shapes = Shapes(3, seed=5, size=96)
    images, annotations = [], []
    for i in range(3):
        one = shapes.annotations(i)
        Image.fromarray(shapes.image(i)).save(folder / one.file_name)
        images.append({"id": i, "file_name": one.file_name, "width": 96, "height": 96})
        for box, label, area, number in zip(one.boxes, one.labels, one.areas, one.ids, strict=True):
            x0, y0, x1, y1 = box.tolist()
            annotations.append(
                {"id": int(number), "image_id": i, "category_id": int(label) + 1, "iscrowd": 0,
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(area)}
            )  # fmt: skip
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(shapes.classes)]
    path = folder / "annotations.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path, folder


@pytest.fixture
def recipe(tmp_path: Path, hybrid: Path) -> Path:
    return small_recipe(tmp_path / "small.yaml", hybrid)


def small_recipe(path: Path, checkpoint: Path) -> Path:
    """Of a sweep of five variants on three batches of one image."""
    values = {
        "model": {"checkpoint": str(checkpoint)},
        "data": {"kind": "shapes", "limit": 3},
        "ablations": [
            {"kind": "heads", "pattern": "decoder.layers.0.self_attn"},
            {"kind": "modules", "pattern": ["backbone.stem"]},
        ],
        "evaluation": {"batch_size": 1, "resamples": 20},
    }
    path.write_text(yaml.safe_dump(values))
    return path


@contextmanager
def edited(recipe: Path) -> Iterator[dict[str, Any]]:
    """The file's values, to change; they are written back at the end."""
    values = yaml.safe_load(recipe.read_text())
    yield values
    recipe.write_text(yaml.safe_dump(values))

"""A small data set and a small sweep to run commands on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.data.shapes import Shapes
from tests.coco_folder import write_coco


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three shapes images as a COCO data set."""
    folder = tmp_path_factory.mktemp("coco")
    return write_coco(folder, Shapes(3, seed=5, size=96)), folder


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

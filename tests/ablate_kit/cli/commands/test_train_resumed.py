"""What a training run that resumes has to share with the one that began."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.ablate_kit.conftest import Run
from tests.ablate_kit.retraining.test_retraining import BASE, coco_files

TWO = ("--set", "training.epochs=2")


def other_pixels(files: Path) -> None:
    (files / "3.png").write_bytes((files / "2.png").read_bytes())


def other_objects(files: Path) -> None:
    text = (files / "boxes.json").read_text()
    (files / "boxes.json").write_text(text.replace('"iscrowd": 0', '"iscrowd": 1', 1))


@pytest.mark.parametrize("change", [other_pixels, other_objects])
def test_a_run_does_not_resume_with_other_files_of_the_same_number(
    run: Run, refuse_any: Run, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    files, recipe = tmp_path / "files", tmp_path / "recipe.yaml"
    files.mkdir()
    recipe.write_text(yaml.safe_dump({**BASE, "data": coco_files(files)}))
    resume = ("train", recipe, "-o", tmp_path / "run", "--resume", *TWO)
    run("train", recipe, "-o", tmp_path / "run")
    before = {one: (files / one).read_bytes() for one in ("3.png", "boxes.json")}
    change(files)
    said = refuse_any(*resume)
    assert "latest.pth is of other training images or annotations than are there now" in said
    for one, content in before.items():
        (files / one).write_bytes(content)

    # Other images to be evaluated on would choose the best weights by another yardstick.
    fewer = ("--set", "data.val_limit=2")
    assert "of other validation images" in refuse_any(*resume, *fewer)

    # An earlier version noted neither.
    latest = tmp_path / "run/latest.pth"
    values = torch.load(latest, weights_only=True)
    del values["data"]
    torch.save(values, latest)
    assert "epoch 2/2" in run(*resume)


def test_a_run_does_not_resume_with_shapes_of_another_seed(
    run: Run, refuse_any: Run, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(BASE))
    run("train", recipe, "-o", tmp_path / "run")
    resume = ("train", recipe, "-o", tmp_path / "run", "--resume", *TWO)
    said = refuse_any(*resume, "--set", "data.seed=9")
    assert "of other training images" in said
    run(*resume)

"""``ablate train``: what a run that resumes, or goes on from a checkpoint, takes from it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import config_and_names
from tests.ablate_kit.conftest import Ablate, Run
from tests.ablate_kit.retraining.test_retraining import BASE
from tests.small_runs import coco_files

TWO = ("--set", "training.epochs=2")


def other_pixels(files: Path) -> None:
    first, second, *_ = sorted(files.glob("*.png"))
    second.write_bytes(first.read_bytes())


def other_objects(files: Path) -> None:
    (annotations,) = files.glob("*.json")
    annotations.write_text(annotations.read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1))


@pytest.mark.parametrize("change", [other_pixels, other_objects])
def test_a_run_does_not_resume_with_other_files_of_the_same_number(
    run: Run, ablate: Ablate, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    files, recipe = tmp_path / "files", tmp_path / "recipe.yaml"
    files.mkdir()
    recipe.write_text(yaml.safe_dump({**BASE, "data": coco_files(files)}))
    resume = ("train", recipe, "-o", tmp_path / "run", "--resume", *TWO)
    run("train", recipe, "-o", tmp_path / "run")
    before = {one: one.read_bytes() for one in files.iterdir()}
    change(files)
    said = ablate(*resume).refusal()
    assert "latest.pth is of other training images or annotations than are there now" in said
    for one, content in before.items():
        one.write_bytes(content)

    # Other images to be evaluated on would choose the best weights by another yardstick.
    fewer = ("--set", "data.val_limit=2")
    assert "of other validation images" in ablate(*resume, *fewer).refusal()

    # An earlier version noted neither.
    latest = tmp_path / "run/latest.pth"
    values = torch.load(latest, weights_only=True)
    del values["data"]
    torch.save(values, latest)
    assert "epoch 2/2" in run(*resume)


def test_a_run_does_not_resume_with_shapes_of_another_seed(
    run: Run, ablate: Ablate, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(BASE))
    run("train", recipe, "-o", tmp_path / "run")
    resume = ("train", recipe, "-o", tmp_path / "run", "--resume", *TWO)
    said = ablate(*resume, "--set", "data.seed=9").refusal()
    assert "of other training images" in said
    run(*resume)


def test_the_network_is_that_of_the_checkpoint_that_it_goes_on_from(
    hybrid: Path, tmp_path: Path, run: Run, refuse: Run
) -> None:
    smaller, recipe, folder = (tmp_path / one for one in ("s.safetensors", "r.yaml", "run"))
    run("component", hybrid, "decoder.layers.1.ffn", "-o", tmp_path / "cut.safetensors")
    run("shrink", hybrid, "--drop", tmp_path / "cut.safetensors", "-o", smaller)
    recipe.write_text(yaml.safe_dump(BASE | {"model": {"preset": "init"}}))
    assert "give --init" in refuse("train", recipe, "-o", folder)
    assert not folder.exists()
    run("train", recipe, "--init", smaller, "-o", folder)
    with open_checkpoint(smaller) as before, open_checkpoint(folder / "model.safetensors") as after:
        wanted = config_and_names(before)[0]
        assert config_and_names(after)[0] == wanted
        assert wanted.decoder_hidden == (64, 0, 64)
    # A run that is resumed has no --init to take it from, but a recipe of its own.
    told = run("train", recipe, "--resume", "--set", "training.epochs=2", "-o", folder)
    assert "epoch 2/2" in told

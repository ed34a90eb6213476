"""Several processes train what one does; a killed run goes on to the same bytes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from tests.small_runs import coco_files

RECIPE = """\
model: {preset: tiny, image_size: 64, widths: [16, 32, 16, 16], depths: [1, 1, 1, 1], d_model: 32,
        queries: 8, decoder_layers: 2%s}
data: {kind: shapes, train: 16, val: 2}
training: {epochs: 2, batch_size: 4, accumulate: 2, lr: 0.0001, warmup_epochs: 0.5, log_every: 1,
           ema: 0.9, losses: {quality_floor: 0.1}, save_every: 1, evaluate_every: 5}
"""


def command(recipe: Path, output: Path, *options: str) -> list[str]:
    return ["-m", "ablate_kit", "train", str(recipe), "-o", str(output), *options]


def run(arguments: list[str], *, processes: int = 1) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    if processes == 1:
        starter = [sys.executable]
    else:
        # --standalone: the processes agree on a free port themselves, which stays theirs.
        starter = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={processes}",
        ]  # fmt: skip
    done = subprocess.run(
        [*starter, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("model", [", query_objectness: true", ", norm: bn"])
def test_two_processes_train_what_one_does(tmp_path: Path, model: str) -> None:
    """Batch norm included: its statistics are those of both processes' images.

    Half of the images show no object, so that shares of a batch and whole batches are without.
    """
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE % model)
    (tmp_path / "data").mkdir()
    data = json.dumps(coco_files(tmp_path / "data", 12, shown=lambda i: i % 2 == 1))
    options = ("--set", f"data={data}", "--set", "training.batch_size=4")
    run(command(recipe, tmp_path / "one", *options))
    run(command(recipe, tmp_path / "two", *options), processes=2)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5, msg=name)
    losses = [
        json.loads((tmp_path / folder / "history.json").read_text())["train_loss"]
        for folder in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


PARTS = """\
model: {preset: tiny, widths: [16, 32, 16, 16], depths: [1, 1, 1, 1], d_model: 32, neck_repeats: 1}
augmentation: {image_size: 64, val_resize: 64}
data: {kind: shapes, train: 8, val: 2}
training: {epochs: 2, batch_size: 4, lr: 0.001, warmup_epochs: 0.5, mixing: []}
"""


@pytest.mark.slow
def test_two_processes_pretrain_what_one_does(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(PARTS)
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        run(["-m", "ablate_kit", "pretrain", str(recipe), "-o", str(folder)], processes=processes)
        latest = torch.load(folder / "latest.pth", weights_only=True)
        found.append((latest["model"], latest["history"]))
    (one, history), (two, other) = found
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=2e-5, msg=name)
    for name in ("train_loss", "train_accuracy", "val_loss_ema"):
        assert other[name] == pytest.approx(history[name], rel=1e-4)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE % ", denoising: contrastive")
    run(command(recipe, tmp_path / "whole"))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    stopped = Path(__file__).parents[2] / "attacks" / "stopped.py"
    step = "detector.training.trainer:Trainer._step"
    done = subprocess.run(
        [sys.executable, stopped, "SIGKILL", "3", step, *command(recipe, tmp_path / "parts")[2:]],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len((tmp_path / "parts/log.jsonl").read_text().splitlines()) == 2
    # With workers now: how many there are changes no batch.
    run(command(recipe, tmp_path / "parts", "--resume", "--set", "training.workers=2"))
    whole, parts = (
        (tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "parts")
    )
    assert whole == parts

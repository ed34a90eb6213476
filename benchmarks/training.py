"""Images per second and memory of training, in fp32 and in reduced precision, in one run.

    python benchmarks/training.py --device cuda [--voc VOCdevkit]
    python benchmarks/training.py --preset tiny --image-size 64 --batch-size 2 --steps 3 --workers 0

It is the trainer itself that runs, data loading, clipping and logging included, on generated images
of the network's size; the first ``--warm-up`` steps do not count. "fp32" is without TF32 and "tf32"
with it (on a GPU). Memory is the most that PyTorch's allocator gave out; on a CPU it is the most
that the process held so far, so that only a first row says something. With ``--voc``, one epoch on
``--split`` follows, with the evaluation on ``--val-split``.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ablate_kit.models.validation import evaluator
from detector.training.detection import detection_trainer
from detector.training.recipe import TrainRecipe, parse_recipe
from detector.training.tf32 import tf32
from detector.training.throughput import memory_gb


class Watch:
    """The trainer's progress as times: of the steps after ``warm_up``, and of the epoch."""

    def __init__(self, device: torch.device, warm_up: int) -> None:
        self.device, self.warm_up = device, warm_up
        self.steps = 0
        self.started = self.seconds = 0.0
        self.record: Mapping[str, float | None] = {}

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        if not self.warm_up:
            self.started = self._now()

    def batch(self, look: Mapping[str, float] | None) -> None:
        self.steps += 1
        if self.steps == self.warm_up:
            self.started = self._now()
        elif self.steps > self.warm_up and look is not None:
            self.seconds = self._now() - self.started

    def finish(self, record: Mapping[str, float | None]) -> None:
        self.record = record

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="thesis")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--activation-checkpointing", action="store_true", help="rows with it, too")
    parser.add_argument("--voc", help="a VOCdevkit: train one epoch on it")
    parser.add_argument("--split", default="2007:train")
    parser.add_argument("--val-split", default="2007:val")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}; {options.preset}, batch {options.batch_size}")
    print(f"{'precision':20}{'images/s':>10}{'over fp32':>11}{'GB':>8}{'waiting':>9}")
    base = None
    precisions = ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")
    for checkpointing in (False, True)[: 1 + options.activation_checkpointing]:
        for precision in precisions:
            rate, memory, wait = _measured(options, device, precision, checkpointing)
            base = base or rate
            label = precision + (", checkpointing" if checkpointing else "")
            print(f"{label:20}{rate:10.2f}{rate / base:10.2f}x{memory:8.2f}{wait:9.1%}")
    if options.voc:
        _epoch(options, device)


def _measured(
    options: argparse.Namespace, device: torch.device, precision: str, checkpointing: bool
) -> tuple[float, float, float]:
    """Images per second, memory, and share of the time spent waiting for data."""
    images = (options.warm_up + options.steps) * options.batch_size
    data = {"kind": "shapes", "train": images, "val": 1}
    watch = Watch(device, options.warm_up)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    # One look, at the last step: whatever looks at a number waits for the device.
    last = max(options.warm_up + options.steps - 1, 1)
    changes = {"log_every": last, "activation_checkpointing": checkpointing}
    with TemporaryDirectory() as folder, tf32(enabled=precision == "tf32"):
        recipe = _recipe(options, data, precision, changes)
        training, _ = recipe.data.datasets()
        detection_trainer(recipe, training, Path(folder), device=options.device).run(watch)
    rate = options.steps * options.batch_size / watch.seconds
    return rate, memory_gb(device), float(watch.record["data_wait"] or 0.0)


def _epoch(options: argparse.Namespace, device: torch.device) -> None:
    data = {"kind": "voc", "root": options.voc, "train": options.split, "val": options.val_split}
    watch = Watch(device, 0)
    with TemporaryDirectory() as folder:
        recipe = _recipe(options, data, "bf16", {})
        training, validation = recipe.data.datasets()
        judge = evaluator(validation, options.device)
        started = time.perf_counter()
        detection_trainer(
            recipe, training, Path(folder), evaluate=judge, device=options.device
        ).run(watch)
        whole = time.perf_counter() - started
    record = watch.record
    print(
        f"one epoch of {options.split} in bf16: {len(training)} images in "
        f"{record['train_seconds']:.1f} s, {record['data_wait']:.0%} of them waiting for data; "
        f"loss {record['train_loss']:.3f}; with the evaluation of {len(validation)} images "
        f"{whole:.1f} s"
    )


def _recipe(
    options: argparse.Namespace, data: dict[str, Any], precision: str, changes: dict[str, Any]
) -> TrainRecipe:
    model = {"preset": options.preset}
    if options.image_size:
        model["image_size"] = options.image_size
    training = {
        "epochs": 1,
        "batch_size": options.batch_size,
        "workers": options.workers,
        "warmup_epochs": 0.5,
        "precision": "bf16" if precision == "bf16" else "fp32",
        **changes,
    }
    return parse_recipe({"model": model, "data": data, "training": training}, "benchmark")


if __name__ == "__main__":
    main()

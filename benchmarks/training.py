"""Images per second and memory of training, in fp32 and in reduced precision, in one run.

    python benchmarks/training.py --device cuda [--voc VOCdevkit]
    python benchmarks/training.py --preset tiny --image-size 64 --batch-size 2 --steps 3 --workers 0

It is the trainer itself that runs, data loading and clipping included, on generated images of the
network's size; the first ``--warm-up`` steps do not count. "fp32" is without TF32 and "tf32" with
it (on a GPU). Memory is the most that PyTorch's allocator gave out; on a CPU it is the most that
the process held so far, so that only a first row says something. Two further steps, not timed,
count how often the host waits for the GPU. With ``--voc``, one epoch on ``--split`` follows, with
the evaluation on ``--val-split``.
"""

import argparse
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any
from unittest import mock

import torch

from ablate_kit.models.inference.training_evaluator import evaluator
from detector.network.ops import bilinear, neighborhood_attention
from detector.training.detection_task import detection_trainer
from detector.training.recipes.train_recipe import TrainRecipe, parse_recipe
from detector.training.throughput import memory_gb

Row = dict[str, Any]

COUNTED = 2  # steps in which synchronizations are counted
# Ways to compute the operations: (neighborhood attention, sums of samples); None chooses.
Ways = tuple[str | None, str | None]


@dataclass(frozen=True)
class Size:
    preset: str = "thesis"
    image: int | None = 640
    batch: int = 8
    steps: int = 4
    warm_up: int = 2
    workers: int = 8


QUICK = Size("tiny", 64, 1, 2, 1, 0)


@dataclass
class Watch:
    """The trainer's progress as times of the steps after ``warm_up``; then counts for a while."""

    device: torch.device
    warm_up: int
    steps: int
    done: int = 0
    started: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0  # for data, in those steps
    record: Mapping[str, float | None] = field(default_factory=dict)
    places: Counter[str] = field(default_factory=Counter)
    _counting: ExitStack = field(default_factory=ExitStack)

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        if not self.warm_up:
            self.started = self._now()

    def batch(self, look: Mapping[str, float] | None) -> None:
        self.done += 1
        last = self.warm_up + self.steps
        if self.done == self.warm_up:
            self.started = self._now()
        elif self.done == last:
            self.seconds = self._now() - self.started
            self._counting.enter_context(synchronizations(self.device, self.places))
        elif self.done == last + COUNTED:
            self._counting.close()

    def finish(self, record: Mapping[str, float | None]) -> None:
        self._counting.close()
        self.record = record

    def watched(self, batches: Any) -> "Watched":
        return Watched(batches, self)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Watched:
    """The trainer's batches; the time that one waits for them goes to the watch."""

    def __init__(self, batches: Any, watch: Watch) -> None:
        self.batches, self.watch = batches, watch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        started = time.perf_counter()
        for batch in self.batches:
            watch = self.watch
            if watch.warm_up <= watch.done < watch.warm_up + watch.steps:
                watch.waited += time.perf_counter() - started
            yield batch
            started = time.perf_counter()


@contextmanager
def synchronizations(device: torch.device, places: Counter[str]) -> Iterator[None]:
    """Counts where the host waits for the GPU within: file and line of Python, or of the backward
    pass as a whole."""
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            path = Path(warning.filename)
            places[f"{path.parent.name}/{path.name}:{warning.lineno}"] += 1


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
    print(f"{'precision':34}{'images/s':>10}{'over fp32':>11}{'GB':>8}{'waiting':>9}{'syncs':>7}")
    size = Size(
        options.preset,
        options.image_size,
        options.batch_size,
        options.steps,
        options.warm_up,
        options.workers,
    )
    base = None
    for row in rows(
        device, size, checkpointing=(False, True)[: 1 + options.activation_checkpointing]
    ):
        base = base or row.get("images_per_second")
        print(described(row, base), flush=True)
    if options.voc:
        _epoch(options, device)


def measure(
    device: str, quick: bool = False, seconds: float = 1e9, seconds_per_row: float = 60
) -> Iterator[Row]:
    """Rows at thesis size on images of 640 pixels, or ``quick`` ones of a tiny network.

    On a GPU, bf16 comes first, with other ways to compute the operations than are chosen by
    default. A row that took too long or failed says so in ``failed``.
    """
    on, size = torch.device(device), QUICK if quick else Size()
    gpu = on.type == "cuda"
    of = partial(rows, on, size, deadline=time.monotonic() + seconds)
    if gpu:
        ways: tuple[Ways, ...] = ((None, None), (None, "bags"), ("tiled", None))
        yield from of(("bf16",), ways=ways, seconds_per_row=seconds_per_row)
        yield from of(("bf16",), deterministic=True, seconds_per_row=seconds_per_row)
        yield from of(("tf32", "fp32"), seconds_per_row=seconds_per_row)
    else:
        yield from of(seconds_per_row=seconds_per_row)
    if not quick:
        yield from of(("bf16",), checkpointing=(True,), seconds_per_row=seconds_per_row)


def rows(
    device: torch.device,
    size: Size,
    precisions: tuple[str, ...] = (),
    *,
    checkpointing: tuple[bool, ...] = (False,),
    ways: tuple[Ways, ...] = ((None, None),),
    deterministic: bool = False,
    seconds_per_row: float = 1e9,
    deadline: float = float("inf"),
) -> Iterator[Row]:
    """One per precision and setting."""
    precisions = precisions or (
        ("fp32", "tf32", "bf16") if device.type == "cuda" else ("fp32", "bf16")
    )
    for checkpoint in checkpointing:
        for attention, sums in ways:
            for precision in precisions:
                row: Row = {
                    "precision": precision,
                    "activation_checkpointing": checkpoint,
                    "deterministic": deterministic,
                    "attention": attention or "automatic",
                    "sums": sums or "automatic",
                }
                allowed = min(seconds_per_row, deadline - time.monotonic())
                if allowed <= 0:
                    yield row | {"failed": "not measured: the time is up"}
                    continue
                started = time.perf_counter()
                names = ("activation_checkpointing", "deterministic")
                changes = {name: row[name] for name in names}
                try:
                    with _at_most(allowed), _computed(attention, sums):
                        row |= _measured(size, device, precision, changes)
                except Exception as error:  # a row that fails is a result
                    text = f"{type(error).__name__}: {error}".strip().splitlines()
                    row["failed"] = text[0][:200]
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                row["row_seconds"] = round(time.perf_counter() - started, 1)
                yield row


def described(row: Row, base: float | None) -> str:
    label = ", ".join(
        [
            row["precision"],
            *(["checkpointing"] if row["activation_checkpointing"] else []),
            *(["deterministic"] if row["deterministic"] else []),
            *(row[name] for name in ("attention", "sums") if row[name] != "automatic"),
        ]
    )
    if "failed" in row:
        return f"{label:34}{row['failed']}"
    rate = row["images_per_second"]
    return (
        f"{label:34}{rate:10.2f}{rate / (base or rate):10.2f}x{row['memory_gb']:8.2f}"
        f"{row['waiting']:9.1%}{row.get('synchronizations', 0):7.1f}"
    )


def _measured(size: Size, device: torch.device, precision: str, changes: Mapping[str, Any]) -> Row:
    images = (size.warm_up + size.steps + COUNTED) * size.batch
    data = {"kind": "shapes", "train": images, "val": 1}
    watch = Watch(device, size.warm_up, size.steps)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # What torch's compiler says of itself.
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        # Whatever looks at a number waits for the device.
        recipe = _recipe(size, data, precision, {"log_every": 10**6, **changes})
        training, _ = recipe.data.datasets()
        trainer = detection_trainer(recipe, training, Path(folder), device=str(device))
        trainer.batches = watch.watched(trainer.batches)  # type: ignore[assignment]
        trainer.run(watch)
    row: Row = {
        "images_per_second": round(size.steps * size.batch / watch.seconds, 3),
        "memory_gb": memory_gb(device),
        "waiting": round(watch.waited / watch.seconds, 4),
        "loss": watch.record["train_loss"],
    }
    if device.type == "cuda":
        row["synchronizations"] = watch.places.total() / COUNTED
        row["synchronizing"] = dict(watch.places.most_common(20))
    return row


@contextmanager
def _computed(attention: str | None, sums: str | None) -> Iterator[None]:
    """The operations computed in ways that are not chosen by default."""
    with ExitStack() as stack:
        for module, name in ((neighborhood_attention, attention), (bilinear, sums)):
            if name is not None:
                chosen = mock.patch.object(module, "automatic", return_value=name)
                stack.enter_context(chosen)
        yield


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises ``TimeoutError`` after that time, also while torch compiles an operation."""
    if seconds > 1e6 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _epoch(options: argparse.Namespace, device: torch.device) -> None:
    data = {"kind": "voc", "root": options.voc, "train": options.split, "val": options.val_split}
    watch = Watch(device, 0, -1)
    size = Size(options.preset, options.image_size, options.batch_size, workers=options.workers)
    with TemporaryDirectory() as folder:
        recipe = _recipe(size, data, "bf16", {})
        training, validation = recipe.data.datasets()
        judge = evaluator(validation, training.classes, options.device)
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
    size: Size, data: dict[str, Any], precision: str, changes: Mapping[str, Any]
) -> TrainRecipe:
    model: dict[str, Any] = {"preset": size.preset}
    if size.image:
        model["image_size"] = size.image
    training = {
        "epochs": 1,
        "batch_size": size.batch,
        "workers": size.workers,
        "warmup_epochs": 0.5,
        "precision": precision,
        **changes,
    }
    return parse_recipe({"model": model, "data": data, "training": training}, "benchmark")


if __name__ == "__main__":
    main()

"""Small training runs, and what watches them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detector.data.dataset import limit
from detector.data.shapes import Shapes
from detector.training.detection_task import detection_trainer
from detector.training.recipes.train_recipe import TrainRecipe, parse_recipe
from detector.training.trainer import Trainer
from tests.coco_folder import write_coco

SMALL: dict[str, Any] = {
    "preset": "tiny", "image_size": 64, "widths": [16, 32, 16, 16], "depths": [1, 1, 1, 1],
    "d_model": 32, "queries": 8, "decoder_layers": 1,
}  # fmt: skip


class KilledError(Exception):
    """How a run ends that ``Silent`` stops."""


class Silent:
    """Keeps the records of epochs; ends a run after a batch of an epoch, without any warning."""

    def __init__(self, stop: tuple[int, int] | None = None) -> None:
        self.stop, self.done = stop, (0, 0)
        self.starts: list[int] = []  # batches that were done when an epoch began, or went on
        self.records: list[Mapping[str, float | None]] = []

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        self.done = (epoch, done)
        self.starts.append(done)

    def batch(self, look: Mapping[str, float] | None) -> None:
        self.done = (self.done[0], self.done[1] + 1)
        if self.done == self.stop:
            raise KilledError

    def finish(self, record: Mapping[str, float | None]) -> None:
        self.records.append(record)


def recipe(model: Mapping[str, Any] = SMALL, **training: Any) -> TrainRecipe:
    options = {"epochs": 4, "batch_size": 3, "lr": 1e-3, "warmup_epochs": 1.0, **training}
    values = {"model": dict(model), "data": {"kind": "shapes"}, "training": options}
    return parse_recipe(values, where="test")


def trainer(
    folder: Path,
    count: int = 8,
    model: Mapping[str, Any] = SMALL,
    device: str = "cpu",
    evaluate: Any = None,
    evaluate_train: Any = None,
    **training: Any,
) -> Trainer:
    """Of a small model on so many images of shapes."""
    images = limit(Shapes(100, size=64), count)
    return detection_trainer(
        recipe(model, **training), images, folder, evaluate=evaluate,
        evaluate_train=evaluate_train, device=device,
    )  # fmt: skip


def coco_files(
    folder: Path, count: int = 4, shown: Callable[[int], bool] = lambda _: True
) -> dict[str, Any]:
    """The data section of so many images to train on and, of them, to evaluate on; those that are
    not ``shown`` have no annotation."""
    annotations = write_coco(folder, Shapes(count, seed=5, size=64), shown)
    given = {"annotations": annotations, "images": folder}
    named = {f"{part}_{key}": str(one) for part in ("train", "val") for key, one in given.items()}
    return {"kind": "coco", **named}

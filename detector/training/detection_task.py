"""Training of the hybrid detector: the detection task of the training loop."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from detector.checkpoint import save_tensors, weights_metadata
from detector.data.augmentation.letterbox import GRAY, MEAN_COLOR
from detector.data.dataset import Dataset
from detector.data.training_set import Batch, TrainingSet, collate
from detector.errors import UserError
from detector.network.activation_checkpointing import checkpoint_activations
from detector.network.model import HybridDetector
from detector.settings import STRIDES
from detector.training.criterion import criterion, denoising_factor
from detector.training.distributed import SINGLE_PROCESS, DistributedContext
from detector.training.ema import Ema
from detector.training.recipes.train_recipe import TrainRecipe
from detector.training.seeds import batch_seed
from detector.training.task import Best, Forward, Record
from detector.training.trainer import Trainer

METRICS = ("mAP_50_95", "mAP_50")  # the first chooses the best checkpoint

Evaluate = Callable[[HybridDetector], Mapping[str, float]]
"""Metrics of the current model on some data; ``mAP_50_95`` must be among them."""


def detection_trainer(
    recipe: TrainRecipe,
    dataset: Dataset,
    output: Path,
    *,
    evaluate: Evaluate | None = None,
    evaluate_train: Evaluate | None = None,
    device: str = "cpu",
    distributed: DistributedContext = SINGLE_PROCESS,
    data: Mapping[str, str] | None = None,
) -> Trainer:
    """What trains a detector by a recipe; without ``evaluate`` the last weights are the best.

    ``model.safetensors`` in the folder ``output`` holds the best weights by themselves. ``data`` as
    of the ``Trainer``.
    """
    task = Detection(recipe, dataset, evaluate, evaluate_train, distributed)
    return Trainer(task, output, device=device, distributed=distributed, data=data)


class Detection:
    """See ``detector.training.task.Task``."""

    kind = "training"
    measures: Sequence[str] = ()
    best_name = "best_ap"

    def __init__(
        self,
        recipe: TrainRecipe,
        dataset: Dataset,
        evaluate: Evaluate | None,
        evaluate_train: Evaluate | None,
        distributed: DistributedContext,
    ) -> None:
        self.recipe, self.dataset = recipe, dataset
        self.classes = tuple(dataset.classes)
        self.config = recipe.config(self.classes)
        options = recipe.training
        self.sizes = options.sizes()
        self._refuse_single_values()
        self.loss_settings = recipe.loss_settings()
        self._evaluate, self._evaluate_train = evaluate, evaluate_train
        self._distributed = distributed
        self.model = HybridDetector(self.config, seed=options.seed)
        if options.activation_checkpointing:
            checkpoint_activations(self.model)
        self.items = TrainingSet(
            dataset,
            self.config.image_size,
            MEAN_COLOR if self.config.pad_color == "mean" else GRAY,
            flip=options.flip,
            seed=options.seed,
            color=options.color,
            crop=options.crop,
            mosaic=options.mosaic,
        )

    collate = staticmethod(collate)  # without the task, of which workers would get a copy

    def image_id(self, index: int) -> int:
        return self.dataset.annotations(index).image_id

    def losses(self, forward: Forward, batch: Batch, epoch: int, number: int) -> dict[str, Tensor]:
        images, targets = batch
        options, rank = self.recipe.training, self._distributed.rank
        noise = torch.Generator(images.device)
        noise.manual_seed(batch_seed(options.seed, epoch, number, rank))
        out = forward(images, targets, noise)
        factor = denoising_factor(epoch, options.denoising_warmup_epochs)
        return criterion(out, targets, self.loss_settings, factor, self._distributed)

    def evaluate(self, ema: Ema | None, *, due: bool) -> Record:
        subjects: list[tuple[str, Evaluate | None, Ema | None]] = [
            ("val", self._evaluate, None),
            ("train", self._evaluate_train, None),
        ]
        if ema is not None:
            subjects.append(("val_ema", self._evaluate, ema))
        found: Record = {}
        for prefix, evaluate, average in subjects:
            metrics: Mapping[str, float] = {}
            if due and evaluate is not None:
                with average.applied(self.model) if average is not None else nullcontext():
                    metrics = evaluate(self.model)
            for name in METRICS:
                value = metrics.get(name)
                # Images without any object have no mAP.
                known = value is not None and math.isfinite(value)
                found[f"{prefix}_{name}"] = value if known else None
        return found

    def score(self, record: Record, *, average: bool) -> float | None:
        if self._evaluate is None:
            return record["epoch"]
        return record[f"val_ema_{METRICS[0]}" if average else f"val_{METRICS[0]}"]

    def must_not_change(self) -> Iterable[tuple[str, str]]:
        """What decides which images a batch holds."""
        return [("training", name) for name in ("batch_size", "accumulate", "seed")]

    def about(self) -> Mapping[str, str]:
        return {"config": self.config.to_json()}

    def write_config(self, folder: Path) -> None:
        """Nothing: the recipe says it all."""

    def export(self, folder: Path, best: Best) -> None:
        metadata = weights_metadata(self.config.to_json(), self.classes, best.origin)
        save_tensors(self.exported(folder), best.weights, metadata)

    def exported(self, folder: Path) -> Path:
        return folder / "model.safetensors"

    def _refuse_single_values(self) -> None:
        """Batch norm takes no variance of one value: one image whose p6 is a single cell."""
        smallest = min((self.config.image_size, *self.sizes))
        one_image = min(self.recipe.training.batch_size, len(self.dataset)) == 1
        if self.config.norm == "bn" and smallest == STRIDES[-1] and one_image:
            raise UserError(
                f'batches of one image of {smallest} pixels leave batch norm (model.norm "bn") '
                "one number per channel of p6; give a larger training.batch_size or images"
            )

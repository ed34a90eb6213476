"""The hybrid detector's training, by a recipe or from a checkpoint's weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablate_kit.errors import UserError
from ablate_kit.models.frameworks.hybrid_detector.hybrid_adapter import HybridAdapter
from detector.data.dataset import Dataset
from detector.data.training_set import Batch
from detector.training.detection_task import detection_trainer
from detector.training.recipes.train_recipe import TrainRecipe, parse_recipe


class HybridTraining:
    """The trainer's model, batches, loss, precision and clipping, at a constant learning rate.

    Of a recipe nothing else counts here: no schedule, no average, no evaluation.
    """

    def __init__(self, recipe: TrainRecipe, dataset: Dataset, device: str = "cpu") -> None:
        quiet = recipe.training.model_copy(update={"log": []})
        recipe = recipe.model_copy(update={"training": quiet})
        # It writes nothing before it runs.
        self.trainer = detection_trainer(recipe, dataset, Path(), device=device)
        self.model = self.trainer.model
        self.optimizer = self.trainer.optimizer
        self.accumulate = recipe.training.accumulate
        self.scaler: torch.amp.GradScaler = self.trainer.precision.scaler
        self.epoch = 0

    def batches(self) -> Iterator[Batch]:
        while True:
            self.trainer.train_mode()
            self.trainer.sampler.set_epoch(self.epoch)
            yield from self.trainer.batches
            self.epoch += 1

    def losses(self, batch: Batch, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        terms = dict(self.trainer.losses(batch, self.epoch, index))
        return terms.pop("loss"), terms

    def clip(self) -> None:
        self.trainer.clipping()


def from_checkpoint(
    adapter: HybridAdapter, dataset: Dataset, options: Mapping[str, Any], device: str
) -> HybridTraining:
    """Training that goes on from a checkpoint's weights, with the recipe's defaults.

    Raises ``UserError`` where the data's classes are not the checkpoint's.
    """
    if tuple(dataset.classes) != tuple(adapter.classes):
        there, here = (
            f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for names in (tuple(adapter.classes), tuple(dataset.classes))
        )
        raise UserError(f"the checkpoint has {there}, the data {here}; expected the same")
    config = adapter.module.config.to_dict()
    # The data section of a recipe is not looked at where the data set is given.
    values = {"model": config, "data": {"kind": "shapes"}, "training": dict(options)}
    training = HybridTraining(parse_recipe(values, "the training options"), dataset, device)
    training.model.load_state_dict(adapter.module.state_dict())
    return training

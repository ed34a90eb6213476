"""Pretraining of the detector's backbone and neck: the classification task of the training loop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from detector.data.classification import LabeledImages, digest
from detector.data.classification_training import (
    Batch,
    TransformedImages,
    collate,
    mix,
    mixing_generator,
)
from detector.data.training_set import loader
from detector.network.classifier import Classifier
from detector.training.devices import to_device
from detector.training.distributed import SINGLE_PROCESS, DistributedContext
from detector.training.ema import Ema
from detector.training.precision import Precision
from detector.training.recipes.pretrain_recipe import PretrainRecipe, current
from detector.training.run_folder.pretrain_files import EXPORT, export, write_config
from detector.training.task import Best, Forward, Record
from detector.training.trainer import Trainer


def classification_trainer(
    recipe: PretrainRecipe,
    training: LabeledImages,
    validation: LabeledImages,
    output: Path,
    *,
    device: str = "cpu",
    distributed: DistributedContext = SINGLE_PROCESS,
) -> Trainer:
    """What pretrains by a recipe.

    ``config.json`` in the folder ``output`` says what is trained, in the notebooks' words;
    ``pretrained_backbone_neck`` holds the best weights, which are to be grafted.
    """
    task = Classification(recipe, training, validation)
    data = {"training": digest(training), "validation": digest(validation)}
    return Trainer(task, output, device=device, distributed=distributed, data=data)


class Classification:
    """See ``detector.training.task.Task``."""

    kind = "pretraining"
    measures: Sequence[str] = ("accuracy",)  # percent; in shares where images are mixed
    best_name = "best_accuracy"
    sizes: Sequence[int] = ()

    def __init__(
        self, recipe: PretrainRecipe, training: LabeledImages, validation: LabeledImages
    ) -> None:
        self.recipe = recipe
        self.classes = tuple(training.classes)
        self.config = recipe.config(self.classes)
        self.model = Classifier(
            self.config,
            neck=recipe.classifier.neck,
            multi_head=recipe.classifier.multi_head,
            seed=recipe.training.seed,
        )
        self.items = TransformedImages(
            training, recipe.augmentation.training(), recipe.training.seed
        )
        self._validation = loader(
            TransformedImages(validation, recipe.augmentation.validation()),
            [(0, index) for index in range(len(validation))],
            recipe.training.batch_size,
            recipe.training.workers,
            drop_last=False,
            pin_memory=False,
            collate=collate,
        )

    collate = staticmethod(collate)  # without the task, of which workers would get a copy

    def image_id(self, index: int) -> int:
        return index

    def losses(self, forward: Forward, batch: Batch, epoch: int, number: int) -> dict[str, Tensor]:
        """Cross-entropy of the scores, and of the levels' heads by the weights of the epoch."""
        images, labels = batch
        options = self.recipe.training
        targets = F.one_hot(labels, len(self.classes)).float()
        mixing = current(options.mixing, epoch, options.epochs)
        if mixing is not None:
            generator = mixing_generator(options.seed, epoch, number)
            images, targets = mix(
                images, targets, mixing.probability, mixing.mixup, mixing.cutmix, generator
            )
        main, levels = forward(images)
        entropy = partial(F.cross_entropy, target=targets, label_smoothing=options.label_smoothing)
        terms = {"labels": entropy(main)}
        auxiliary = current(options.auxiliary, epoch, options.epochs)
        if auxiliary is not None:
            for i, (weight, logits) in enumerate(zip(auxiliary.weights, levels, strict=False)):
                terms[f"level_{i}"] = weight * entropy(logits)
        terms["loss"] = sum(terms.values(), start=torch.zeros((), device=main.device))
        guesses = main.detach().argmax(dim=1, keepdim=True)
        terms["accuracy"] = 100 * targets.gather(1, guesses).mean()
        return terms

    @torch.no_grad()
    def evaluate(self, ema: Ema | None, *, due: bool) -> Record:
        """Top-1 accuracy in percent and cross-entropy, not smoothed."""
        models: dict[str, Callable[..., Any]] = {"": self.model.eval()}
        if ema is not None:
            average = dict(ema.average)
            models["_ema"] = lambda *args: functional_call(self.model, average, args)
        names = [f"val_{what}{suffix}" for suffix in models for what in ("loss", "accuracy")]
        if not due:
            return dict.fromkeys(names)
        device = next(self.model.parameters()).device
        precision = Precision(self.recipe.training.precision, device)
        sums = torch.zeros(len(names), device=device)
        count = 0
        for batch in self._validation:
            images, labels = to_device(batch, device)
            count += len(labels)
            values = []
            for model in models.values():
                logits, _ = precision.forward(model, images)
                values.append(F.cross_entropy(logits, labels, reduction="sum"))
                values.append(100 * (logits.argmax(dim=1) == labels).sum())
            sums += torch.stack([value.float() for value in values])
        return dict(zip(names, (sums / count).tolist(), strict=True))

    def score(self, record: Record, *, average: bool) -> float | None:
        return record["val_accuracy_ema" if average else "val_accuracy"]

    def must_not_change(self) -> Iterable[tuple[str, str]]:
        """The schedules go on only where both recipes say the same.

        How fast it goes may change, and where folders lie: their classes and sizes are compared.
        """
        settings = self.recipe.resolved()
        movable = {
            ("training", name)
            for name in ("workers", "save_every", "log_every", "log", "skip_limit")
        }
        if settings["data"]["kind"] == "folder":
            movable |= {("data", "train"), ("data", "val")}
        every = ((section, name) for section, values in settings.items() for name in values)
        return [place for place in every if place not in movable]

    def about(self) -> Mapping[str, str]:
        return {"backbone_config": self.config.to_json()}

    def write_config(self, folder: Path) -> None:
        write_config(folder / "config.json", self.recipe, self.classes)

    def export(self, folder: Path, best: Best) -> None:
        export(folder, best, self.recipe, self.classes)

    def exported(self, folder: Path) -> Path:
        return folder / f"{EXPORT}.safetensors"

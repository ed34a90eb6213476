"""Pretraining of the detector's backbone and neck on images with one class each."""

import copy
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from detector import stopping
from detector.checkpoint import load_checkpoint, save_checkpoint
from detector.data.classification import LabeledImages
from detector.data.classification_training import (
    TransformedImages,
    collate,
    mix,
    mixing_generator,
)
from detector.data.training import EpochSampler, loader
from detector.disk.atomic import new_text, remove_temporaries
from detector.disk.lock import locked
from detector.errors import UserError
from detector.network.classifier import Classifier
from detector.training.ema import Ema
from detector.training.optim import learning_rate_factor, offset_parameters, parameter_groups
from detector.training.pretrain_files import EXPORT, export, write_config
from detector.training.pretrain_recipe import PretrainRecipe, current
from detector.training.tf32 import tf32

BETAS, EPSILON = (0.9, 0.999), 1e-6
LOG_EVERY = 10  # batches between looks at the loss; each look waits for the device

# What an epoch adds up, batch by batch: on the device, so that nothing waits for it.
SUMS = ("loss", "hits", "gradient", "clipped")

Record = dict[str, float | None]


class Progress(Protocol):
    """Who is told how the run goes."""

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        """An epoch begins, or goes on with batch ``done`` where an earlier run was stopped."""

    def batch(self, loss: float | None) -> None:
        """One batch is done; its loss where it was looked at."""

    def finish(self, record: Mapping[str, float | None]) -> None:
        """One epoch is done, validation included."""


@dataclass
class _State:
    """What a resumed run continues from, beside weights, average and optimizer."""

    epoch: int = 0  # finished ones
    batch: int = 0  # finished ones of the epoch under way
    sums: list[float] = field(default_factory=lambda: [0.0] * len(SUMS))  # of these batches
    best: float = -1.0  # accuracy, percent
    history: dict[str, list[float | None]] = field(default_factory=dict)


class Pretrainer:
    """Trains a classifier by a recipe and leaves everything about the run in one folder.

    The folder gets ``recipe.yaml`` (resolved), ``config.json``, ``history.json``, ``latest.pth``
    after each epoch and, after each epoch with the best accuracy so far, ``best.pth`` and
    ``pretrained_backbone_neck``, which is to be grafted. The best is chosen, and exported, of the
    moving average where there is one.

    Whatever is random follows from the recipe's seed and the place in the run: a resumed run
    computes the same numbers as one that was never stopped, in the middle of an epoch, too.
    """

    def __init__(
        self,
        recipe: PretrainRecipe,
        training: LabeledImages,
        validation: LabeledImages,
        output: Path,
        *,
        device: str = "cpu",
    ) -> None:
        self.recipe, self.options = recipe, recipe.training
        self.classes = tuple(training.classes)
        self.config = recipe.config(self.classes)
        self.output = output
        self.device = torch.device(device)
        self.images = len(training)
        self.model = Classifier(
            self.config,
            neck=recipe.classifier.neck,
            multi_head=recipe.classifier.multi_head,
            seed=self.options.seed,
        ).to(self.device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                self.model, self.options.lr, self.options.weight_decay, recipe.multipliers()
            ),
            betas=BETAS,
            eps=EPSILON,
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.offsets = offset_parameters(self.model)
        self.ema = Ema(self.model, self.options.ema) if self.options.ema is not None else None
        self.averaged = _sharing(self.model, self.ema) if self.ema is not None else None
        self.state = _State()
        self._kept: tuple[int, int] | None = None  # the epochs and batches in latest.pth
        self.batch_size = min(self.options.batch_size, self.images)
        self.steps = self.images // self.batch_size  # per epoch; the remainder is left out
        self.sampler = EpochSampler(self.images, seed=self.options.seed)
        pinned = self.device.type == "cuda"
        self.batches = loader(
            TransformedImages(training, recipe.augmentation.training(), self.options.seed),
            self.sampler,
            self.batch_size,
            self.options.workers,
            pin_memory=pinned,
            collate=collate,
        )
        self.validation = loader(
            TransformedImages(validation, recipe.augmentation.validation()),
            [(0, index) for index in range(len(validation))],
            self.options.batch_size,
            self.options.workers,
            drop_last=False,
            pin_memory=pinned,
            collate=collate,
        )

    def run(self, progress: Progress, *, resume: bool = False) -> Path:
        """Trains to the last epoch and returns the path of the file to graft.

        Asked to stop (see ``stopping``), it ends its batch and keeps it in ``latest.pth``.
        """
        with locked(self.output):
            return self._run(progress, resume)

    @property
    def kept(self) -> str:
        """How far the run can go on from what is on disk, in words; empty if it cannot."""
        if self._kept is None:
            return ""
        epoch, batch = self._kept
        batches = f" and {batch} of {self.steps} batches of the next" if batch else ""
        return f"{epoch} of {self.options.epochs} epochs{batches}"

    def _run(self, progress: Progress, resume: bool) -> Path:
        latest = self.output / "latest.pth"
        if resume:
            self._restore(latest)
        elif latest.exists():
            raise UserError(f"{self.output} holds a run; give --resume or another folder")
        remove_temporaries(self.output)
        if not resume:
            write_config(self.output / "config.json", self.recipe, self.classes)
        recipe = yaml.safe_dump(self.recipe.resolved(), sort_keys=False)
        new_text(self.output / "recipe.yaml", recipe, overwrite=True)
        with tf32(enabled=False):
            while self.state.epoch < self.options.epochs:
                self._epoch(progress)
        return self.output / f"{EXPORT}.safetensors"

    def _epoch(self, progress: Progress) -> None:
        epoch, started = self.state.epoch, time.monotonic()
        progress.start(epoch + 1, self.options.epochs, self.steps, self.state.batch)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            self._train(progress)
        sums = dict(zip(SUMS, self.state.sums, strict=True))
        record: Record = {
            "epoch": epoch + 1,
            "train_loss": sums["loss"] / self.steps,
            "train_accuracy": 100 * sums["hits"] / (self.steps * self.batch_size),
            "gradient_norm": sums["gradient"] / self.steps,
            "clipped": sums["clipped"] / self.steps,
            "lr_factor": self._factor(epoch * self.steps),
            "train_seconds": round(time.monotonic() - started, 3),
            **self._validate(),
        }
        for name, value in record.items():
            self.state.history.setdefault(name, []).append(value)
        accuracy = record["val_accuracy" if self.ema is None else "val_accuracy_ema"]
        self.state.epoch, self.state.batch = epoch + 1, 0
        self.state.sums = [0.0] * len(SUMS)
        if accuracy is not None and accuracy > self.state.best:
            self.state.best = accuracy
            self._save(self.output / "best.pth")
            export(
                self.output,
                self.model.state_dict() if self.ema is None else self.ema.average,
                self.recipe,
                self.classes,
                accuracy=accuracy,
                epoch=epoch + 1,
                is_average=self.ema is not None,
            )
        history = json.dumps(self.state.history, indent=2)
        new_text(self.output / "history.json", history, overwrite=True)
        self._keep_state()  # last: what comes before it is repeated if stopped
        progress.finish(record)

    def _train(self, progress: Progress) -> None:
        """The batches of an epoch that are left."""
        self.model.train()
        epoch, every = self.state.epoch, self.options.save_every
        self.sampler.set_epoch(epoch, start=self.state.batch * self.batch_size)
        sums = torch.tensor(self.state.sums, device=self.device)
        with stopping.deferred() as asked:
            for i, (images, labels) in enumerate(self.batches, start=self.state.batch):
                # Drop paths draw from the global generator; run() gives it back as it was.
                torch.manual_seed(_seed(self.options.seed, epoch, i))
                images = images.to(self.device, non_blocking=True)
                loss, hits = self._loss(images, labels.to(self.device, non_blocking=True), i)
                loss.backward()
                norm = self._step(epoch * self.steps + i)
                sums += torch.stack((loss.detach(), hits, norm, (norm > self.options.clip).float()))
                self.state.batch = i + 1
                if asked():
                    break
                if every and (i + 1) % every == 0 and i + 1 < self.steps:
                    self._keep(sums)
                    self._keep_state()
                progress.batch(self._look(loss) if i % LOG_EVERY == 0 else None)
            if asked():
                self._keep(sums)
                self._keep_state()
        self._keep(sums)

    def _loss(self, images: Tensor, labels: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """The loss, and how many images show what they are thought to, in shares if mixed."""
        epoch, options = self.state.epoch, self.options
        targets = F.one_hot(labels, len(self.classes)).float()
        mixing = current(options.mixing, epoch, options.epochs)
        if mixing is not None:
            generator = mixing_generator(options.seed, epoch, batch)
            images, targets = mix(
                images, targets, mixing.probability, mixing.mixup, mixing.cutmix, generator
            )
        main, levels = self._logits(self.model, images)

        def entropy(logits: Tensor) -> Tensor:
            return F.cross_entropy(logits, targets, label_smoothing=options.label_smoothing)

        loss = entropy(main)
        auxiliary = current(options.auxiliary, epoch, options.epochs)
        if auxiliary is not None:
            for weight, logits in zip(auxiliary.weights, levels, strict=False):
                loss = loss + weight * entropy(logits)
        guesses = main.detach().argmax(dim=1, keepdim=True)
        return loss, targets.gather(1, guesses).sum()

    def _logits(self, model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        bf16 = self.options.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            main, levels = model(images)
        return main.float(), [logits.float() for logits in levels]

    def _step(self, step: int) -> Tensor:
        """One optimizer step; the norm of all gradients before it was clipped."""
        factor = self._factor(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        nn.utils.clip_grad_norm_(self.offsets, self.options.clip_offsets)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model, step)
        return norm

    def _factor(self, step: int) -> float:
        return learning_rate_factor(
            step,
            warmup=round(self.options.warmup_epochs * self.steps),
            total=self.options.epochs * self.steps,
            start=self.options.warmup_start,
            end=self.options.final_lr,
        )

    @torch.no_grad()
    def _validate(self) -> Record:
        """Top-1 accuracy in percent and cross-entropy, not smoothed; of the average, too."""
        models = {"": self.model} if self.averaged is None else {
            "": self.model, "_ema": self.averaged,
        }  # fmt: skip
        sums = {name: torch.zeros(2, device=self.device) for name in models}
        count = 0
        for images, labels in self.validation:
            images, labels = images.to(self.device), labels.to(self.device)
            count += len(labels)
            for name, model in models.items():
                logits, _ = self._logits(model.eval(), images)
                loss = F.cross_entropy(logits, labels, reduction="sum")
                sums[name] += torch.stack((loss, (logits.argmax(dim=1) == labels).sum().float()))
        record: Record = {}
        for name, (loss, hits) in sums.items():
            record[f"val_loss{name}"] = loss.item() / count
            record[f"val_accuracy{name}"] = 100 * hits.item() / count
        return record

    def _look(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise UserError(
                f"the loss is {value} in epoch {self.state.epoch + 1}; try a lower training.lr "
                f"(it is {self.options.lr}). {self.output}/latest.pth, if there, is from before"
            )
        return value

    def _keep(self, sums: Tensor) -> None:
        """The sums so far become state; none of a loss that is no number does."""
        self._look(sums[0])
        self.state.sums = sums.tolist()

    def _keep_state(self) -> None:
        self._save(self.output / "latest.pth")
        self._kept = self.state.epoch, self.state.batch

    def _save(self, path: Path) -> None:
        checkpoint: dict[str, Any] = {
            "epoch": self.state.epoch,
            "batch": self.state.batch,
            "sums": self.state.sums,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "best_accuracy": self.state.best,
            "history": self.state.history,
            "backbone_config": self.config.to_json(),
            "classes": list(self.classes),
            "images": self.images,
            "recipe": json.dumps(self.recipe.resolved()),
        }
        save_checkpoint(path, checkpoint)

    def _restore(self, latest: Path) -> None:
        checkpoint = load_checkpoint(latest, self.device, "pretraining")
        try:
            earlier, state = json.loads(checkpoint["recipe"]), _State(
                checkpoint["epoch"], checkpoint["batch"], checkpoint["sums"],
                checkpoint["best_accuracy"], checkpoint["history"],
            )  # fmt: skip
        except (KeyError, ValueError, TypeError):
            raise UserError(f"{latest} is not the checkpoint of a pretraining run") from None
        _check_same(latest, earlier, json.loads(json.dumps(self.recipe.resolved())))
        there = (tuple(checkpoint["classes"]), checkpoint["images"])
        if there != (self.classes, self.images):
            raise UserError(
                f"{latest} was trained on {there[1]} images of {len(there[0])} classes; the data "
                f"now has {self.images} of {len(self.classes)}, or other names for them"
            )
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(checkpoint["ema"])
        self.state = state
        self._kept = state.epoch, state.batch


def _sharing(model: nn.Module, ema: Ema) -> nn.Module:
    """A model in evaluation mode whose weights are the average's own tensors."""
    averaged = copy.deepcopy(model).requires_grad_(False)
    averaged.load_state_dict(ema.average, assign=True)
    return averaged


def _seed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def _check_same(latest: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """The schedule goes on only where both recipes say the same.

    How fast it goes may change, and where folders lie: their classes and sizes are compared.
    """
    movable = {("training", "workers"), ("training", "save_every")}
    if now["data"]["kind"] == "folder":
        movable |= {("data", "train"), ("data", "val")}
    for section, settings in now.items():
        before = earlier.get(section, {})
        for name in {**before, **settings}:
            if before.get(name) != settings.get(name) and (section, name) not in movable:
                raise UserError(
                    f"{latest} was trained with {section}.{name} {before.get(name)!r}, the recipe "
                    f"says {settings.get(name)!r}: a run goes on with the recipe it began with"
                )

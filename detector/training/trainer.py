"""The training loop of the hybrid detector."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader

from detector.checkpoint import save_atomically, save_weights
from detector.config import HybridConfig
from detector.data.dataset import Dataset
from detector.data.letterbox import GRAY, MEAN_COLOR
from detector.data.training import Batch, EpochSampler, Target, TrainingSet, loader
from detector.errors import UserError, did_you_mean
from detector.network.model import HybridDetector
from detector.training.criterion import criterion, denoising_factor
from detector.training.optim import learning_rate_factor, offset_parameters, parameter_groups
from detector.training.recipe import TrainRecipe

BETAS, EPSILON = (0.9, 0.999), 1e-6
BEST = "mAP_50_95"  # the metric that chooses the best checkpoint
LOG_EVERY = 10  # batches between looks at the loss; each look waits for the device

Evaluate = Callable[[HybridDetector], Mapping[str, float]]
"""Metrics of the current model on the validation data; ``mAP_50_95`` must be among them."""


class Progress(Protocol):
    """Who is told how the run goes."""

    def start(self, epoch: int, epochs: int, batches: int) -> None: ...

    def batch(self, loss: float | None) -> None:
        """One batch is done; its loss where it was looked at."""

    def finish(self, record: Mapping[str, float | None]) -> None:
        """One epoch is done, evaluation included."""


@dataclass
class _State:
    """What a resumed run continues from, beside weights and optimizer."""

    epoch: int = 0  # finished ones
    best: float = -1.0
    history: dict[str, list[float | None]] = field(default_factory=dict)


class Trainer:
    """Trains a detector by a recipe and leaves everything about the run in one folder.

    The folder gets ``recipe.yaml`` (resolved), ``history.json``, ``latest.pth`` after each epoch,
    ``best.pth`` and ``model.safetensors`` (its weights, config and class names) after each epoch
    with the best ``mAP_50_95`` so far; without ``evaluate`` the last epoch counts as the best.

    The same recipe gives the same weights: each epoch draws from generators that depend on the
    recipe's seed and the epoch alone, so a resumed run repeats no draw and skips none.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        dataset: Dataset,
        output: Path,
        *,
        evaluate: Evaluate | None = None,
        device: str = "cpu",
    ) -> None:
        self.recipe = recipe
        self.options = recipe.training
        self.classes = tuple(dataset.classes)
        self.config: HybridConfig = recipe.config(self.classes)
        self.output = output
        self.evaluate = evaluate
        self.device = torch.device(device)
        self.model = HybridDetector(self.config, seed=self.options.seed).to(self.device)
        self.frozen = _frozen(self.model, self.options.freeze)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                self.model, self.options.lr, self.options.weight_decay, recipe.multipliers()
            ),
            betas=BETAS,
            eps=EPSILON,
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.offsets = offset_parameters(self.model)
        self.losses = recipe.loss_settings()
        self.noise = torch.Generator(self.device)
        self.state = _State()
        self.sampler = EpochSampler(
            len(dataset),
            seed=self.options.seed,
            sizes=self.options.sizes(),
            batch_size=self.options.batch_size,
        )
        self.batches = self._loader(dataset)
        self.steps_per_epoch = math.ceil(len(self.batches) / self.options.accumulate)

    def run(self, progress: Progress, *, resume: bool = False) -> Path:
        """Trains to the last epoch and returns the path of the best weights."""
        latest = self.output / "latest.pth"
        if resume:
            self._restore(latest)
        elif latest.exists():
            raise UserError(f"{self.output} holds a run; give --resume or another folder")
        self.output.mkdir(parents=True, exist_ok=True)
        recipe = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        (self.output / "recipe.yaml").write_text(recipe)
        while self.state.epoch < self.options.epochs:
            self._epoch(progress)
        return self.output / "model.safetensors"

    def _epoch(self, progress: Progress) -> None:
        epoch, started = self.state.epoch, time.monotonic()
        progress.start(epoch + 1, self.options.epochs, len(self.batches))
        with torch.random.fork_rng():
            torch.manual_seed(self.options.seed * 1_000_003 + epoch)
            loss = self._train(progress)
        trained = time.monotonic() - started
        metrics: Mapping[str, float] = {}
        last = epoch + 1 == self.options.epochs
        if self.evaluate and (last or (epoch + 1) % self.options.evaluate_every == 0):
            self.model.eval()
            metrics = self.evaluate(self.model)
        score = metrics.get(BEST, -1.0 if self.evaluate else float(epoch))
        record: dict[str, float | None] = {
            "epoch": epoch + 1,
            "train_loss": loss,
            "val_mAP_50_95": metrics.get(BEST),
            "val_mAP_50": metrics.get("mAP_50"),
            "lr_factor": self._factor(self.state.epoch * self.steps_per_epoch),
            "train_seconds": round(trained, 3),
        }
        for name, value in record.items():
            self.state.history.setdefault(name, []).append(value)
        self.state.epoch = epoch + 1
        improved = score > self.state.best
        if improved:
            self.state.best = score
        self._save(improved)
        progress.finish(record)

    def _train(self, progress: Progress) -> float:
        """One epoch of optimizer steps; the mean loss."""
        self.model.train()
        for module in self.frozen:
            module.eval()
        self.sampler.set_epoch(self.state.epoch)
        total = torch.zeros((), device=self.device)
        count, size = len(self.batches), self.options.accumulate
        step = self.state.epoch * self.steps_per_epoch
        for i, (images, targets) in enumerate(self.batches):
            # The last group of an epoch may hold fewer batches; its mean is over those it has.
            in_group = min(size, count - i // size * size)
            loss = self._loss(images, targets, i)
            (loss / in_group).backward()
            total += loss.detach()
            if (i + 1) % size == 0 or i + 1 == count:
                self._step(step)
                step += 1
            progress.batch(self._look(loss) if i % LOG_EVERY == 0 else None)
        return self._look(total / count)

    def _loss(self, images: Tensor, targets: list[Target], batch: int) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        for target in targets:
            target["boxes"] = target["boxes"].to(self.device, non_blocking=True)
            target["labels"] = target["labels"].to(self.device, non_blocking=True)
        epoch = self.state.epoch
        self.noise.manual_seed((self.options.seed * 1_000_003 + epoch) * 1_000_003 + batch)
        out = self.model(images, targets, self.noise)
        factor = denoising_factor(epoch, self.options.denoising_warmup_epochs)
        return criterion(out, targets, self.losses, factor)["loss"]

    def _step(self, step: int) -> None:
        factor = self._factor(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        nn.utils.clip_grad_norm_(self.offsets, self.options.clip_offsets)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _factor(self, step: int) -> float:
        return learning_rate_factor(
            step,
            warmup=round(self.options.warmup_epochs * self.steps_per_epoch),
            total=self.options.epochs * self.steps_per_epoch,
            start=self.options.warmup_start,
            end=self.options.final_lr,
        )

    def _look(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise UserError(
                f"the loss is {value} in epoch {self.state.epoch + 1}; try a lower training.lr "
                f"(it is {self.options.lr}). {self.output}/latest.pth is of the epoch before"
            )
        return value

    def _save(self, improved: bool) -> None:
        checkpoint: dict[str, Any] = {
            "epoch": self.state.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"step": self.state.epoch * self.steps_per_epoch},
            "best_ap": self.state.best,
            "history": self.state.history,
            "config": self.config.to_json(),
            "classes": list(self.classes),
            "recipe": self.recipe.model_dump_json(),
        }
        save_atomically(self.output / "latest.pth", lambda path: torch.save(checkpoint, path))
        if improved:
            save_atomically(self.output / "best.pth", lambda path: torch.save(checkpoint, path))
            save_weights(self.output / "model.safetensors", self.model, self.classes)
        history = json.dumps(self.state.history, indent=2)
        save_atomically(self.output / "history.json", lambda path: path.write_text(history))

    def _restore(self, latest: Path) -> None:
        if not latest.exists():
            raise UserError(f"nothing to resume: {latest} does not exist")
        checkpoint = torch.load(latest, map_location=self.device, weights_only=True)
        if checkpoint["config"] != self.config.to_json():
            raise UserError(f"{latest} was trained with another model config than the recipe's")
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.state = _State(checkpoint["epoch"], checkpoint["best_ap"], checkpoint["history"])

    def _loader(self, dataset: Dataset) -> DataLoader[Batch]:
        fill = MEAN_COLOR if self.config.pad_color == "mean" else GRAY
        training_set = TrainingSet(
            dataset,
            self.config.image_size,
            fill,
            flip=self.options.flip,
            seed=self.options.seed,
            color=self.options.color,
            crop=self.options.crop,
            mosaic=self.options.mosaic,
        )
        return loader(
            training_set,
            self.sampler,
            batch_size=self.options.batch_size,
            workers=self.options.workers,
            drop_last=len(dataset) >= self.options.batch_size,
            pin_memory=self.device.type == "cuda",
        )


def _frozen(model: HybridDetector, names: Sequence[str]) -> list[nn.Module]:
    """The named modules, whose parameters get no gradient from now on."""
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules or not any(True for _ in modules[name].parameters()):
            near = did_you_mean(name, [known for known in modules if known])
            raise UserError(f'training.freeze names no module "{name}" of the detector{near}')
        modules[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("training.freeze leaves nothing to train")
    return [modules[name] for name in names]

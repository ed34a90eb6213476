"""The training loop of the hybrid detector."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from detector import stopping
from detector.config import STRIDES, HybridConfig
from detector.data.dataset import Dataset
from detector.data.letterbox import GRAY, MEAN_COLOR
from detector.data.training import (
    Batch,
    DistributedBatchSampler,
    EpochSampler,
    Target,
    TrainingSet,
    loader,
)
from detector.disk.lock import locked
from detector.errors import UserError
from detector.network.activation_checkpointing import checkpoint_activations
from detector.network.compiled import compile_parts
from detector.network.model import HybridDetector
from detector.training.criterion import criterion, denoising_factor
from detector.training.distributed import SINGLE_PROCESS, DistributedContext
from detector.training.ema import Ema
from detector.training.modules import clipping_of, freeze
from detector.training.optim import learning_rate_factor, parameter_groups
from detector.training.precision import Precision
from detector.training.recipe import TrainRecipe
from detector.training.resume_check import refuse_other_run
from detector.training.run_files import History, RunFiles
from detector.training.skipped_steps import OptimizerStep, SkippedStepTracker
from detector.training.synced_norm import synchronize_norms
from detector.training.throughput import ThroughputMeter, memory_gb, timed

BETAS, EPSILON = (0.9, 0.999), 1e-6
BEST = "mAP_50_95"  # the metric that chooses the best checkpoint
METRICS = (BEST, "mAP_50")

Evaluate = Callable[[HybridDetector], Mapping[str, float]]
"""Metrics of the current model on some data; ``mAP_50_95`` must be among them."""


class Progress(Protocol):
    """Who is told how the run goes."""

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None:
        """An epoch begins, or goes on after ``done`` of its batches."""

    def batch(self, look: Mapping[str, float] | None) -> None:
        """One batch is done; with loss, rate and the like where somebody looked."""

    def finish(self, record: Mapping[str, float | None]) -> None:
        """One epoch is done, evaluation included."""


@dataclass
class _State:
    """What a resumed run continues from, beside weights, average and optimizer."""

    epoch: int = 0  # finished ones
    batch: int = 0  # finished ones of the epoch under way
    loss: float = 0.0  # sum of the losses that were all_finite ...
    losses: float = 0.0  # ... and how many were
    best: float = -1.0
    best_epoch: int = 0
    skipped: int = 0  # optimizer steps without a usable gradient
    history: History = field(default_factory=dict)


class Trainer:
    """Trains a detector by a recipe and leaves everything about the run in one folder.

    The folder gets ``recipe.yaml`` (resolved), ``origin.json`` (where the first weights come from,
    if not from the seed), ``history.json`` and ``curves.png``, ``log.jsonl``,
    ``latest.pth`` after each epoch (and every ``save_every`` steps), ``best.pth`` and
    ``model.safetensors`` after each epoch with the best ``mAP_50_95`` so far; without ``evaluate``
    the last epoch counts as the best. With an average of the weights, that is what is best and
    what ``model.safetensors`` holds.

    The same recipe gives the same weights. Whatever is drawn for a batch follows from the recipe's
    seed, the epoch and the batch's number alone, so a run that goes on after any step repeats no
    draw and skips none: it ends with the weights of a run that was never interrupted.

    With several processes, each trains on its share of every batch; the first writes files and
    evaluates.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        dataset: Dataset,
        output: Path,
        *,
        evaluate: Evaluate | None = None,
        evaluate_train: Evaluate | None = None,
        device: str = "cpu",
        distributed: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.recipe = recipe
        self.options = options = recipe.training
        self.classes, self.images = tuple(dataset.classes), len(dataset)
        self.config: HybridConfig = recipe.config(self.classes)
        self.evaluate, self.evaluate_train = evaluate, evaluate_train
        self.device = torch.device(device)
        self.distributed = distributed
        self.model = HybridDetector(self.config, seed=options.seed).to(self.device)
        self.frozen = freeze(self.model, options.freeze)
        synchronize_norms(self.model, distributed)
        if options.activation_checkpointing:
            checkpoint_activations(self.model)
        if options.compile:
            compile_parts(self.model)
        self.network = _network(self.model, distributed)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, options.lr, options.weight_decay, recipe.multipliers()),
            betas=BETAS,
            eps=EPSILON,
            fused=True,  # which can leave out a step on the device itself
        )
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.clipping = clipping_of(self.model, recipe)
        self.precision = Precision(options.precision, self.device)
        self.ema = Ema(self.model, options.ema) if options.ema else None
        self.origin: dict[str, str] = {}  # of the first weights, where they were not drawn
        self.losses = recipe.loss_settings()
        self.denoising_generator = torch.Generator(self.device)
        self.before_clipping: Callable[[], None] = _nothing  # for who looks at gradients
        self.state = _State()
        self._kept: tuple[int, int] | None = None  # the epochs and batches in latest.pth
        self.skipped_steps = SkippedStepTracker(distributed)
        self._refuse_single_numbers()
        self.files = RunFiles(output, tensorboard=options.tensorboard and distributed.is_main)
        self.sampler = EpochSampler(
            len(dataset),
            seed=options.seed,
            sizes=options.sizes(),
            batch_size=options.batch_size,
        )
        self.batches = self._loader(dataset)
        self.batches_per_epoch = len(self.batches)
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / options.accumulate)

    def set_initial_weights(self, origin: Mapping[str, str]) -> None:
        """To be told when weights from elsewhere were put into ``model``.

        The average begins with them, too, and the files of the run name their ``origin``.
        """
        self.origin = dict(origin)
        if self.ema is not None:
            self.ema = Ema(self.model, self.options.ema)

    def run(self, progress: Progress, *, resume: bool = False) -> Path:
        """Trains to the last epoch and returns the path of the best weights.

        Asked to stop (see ``stopping``), it ends its step and keeps it in ``latest.pth``; several
        processes stop at once, and keep what they kept last.
        """
        with locked(self.files.folder) if self.distributed.is_main else nullcontext():
            if resume:
                self._restore()
            elif self.files.latest.exists():
                folder = self.files.folder
                raise UserError(f"{folder} holds a run; give --resume or another folder")
            if self.distributed.is_main:
                recipe = self.recipe.model_dump(mode="json")
                self.files.start(recipe, self.origin, self._step_number() if resume else None)
            while self.state.epoch < self.options.epochs and not self._is_over():
                self._epoch(progress)
        return self.files.folder / "model.safetensors"

    @property
    def kept(self) -> str:
        """How far the run can go on from what is on disk, in words; empty if it cannot."""
        if self._kept is None:
            return ""
        epoch, batch = self._kept
        batches = f" and {batch} of {self.batches_per_epoch} batches of the next" if batch else ""
        return f"{epoch} of {self.options.epochs} epochs{batches}"

    def _is_over(self) -> bool:
        """Has there been no better evaluation for too long?"""
        patience = self.options.stop_after * self.options.evaluate_every
        return bool(patience and self.state.epoch - self.state.best_epoch >= patience)

    def _epoch(self, progress: Progress) -> None:
        state, started = self.state, time.monotonic()
        progress.start(state.epoch + 1, self.options.epochs, self.batches_per_epoch, state.batch)
        with torch.random.fork_rng():
            waited = self._train(progress)
        trained = time.monotonic() - started
        record: dict[str, float | None] = {
            "epoch": state.epoch + 1,
            "train_loss": state.loss / state.losses,
            **self._metrics(),
            "lr_factor": self._factor(state.epoch * self.steps_per_epoch),
            "train_seconds": round(trained, 3),
            "data_wait": round(waited / max(trained, 1e-9), 4),
        }
        for name, value in record.items():
            state.history.setdefault(name, []).append(value)
        state.epoch, state.batch, state.loss, state.losses = state.epoch + 1, 0, 0.0, 0.0
        score = record["val_ema_mAP_50_95" if self.ema else "val_mAP_50_95"]
        if self.evaluate is None:
            score = float(state.epoch)
        improved = score is not None and score > state.best
        if improved:
            state.best, state.best_epoch = float(score or 0.0), state.epoch
        if self.distributed.is_main:
            self.files.save_history(state.history)
            self._save(improved)
        self.distributed.barrier()
        progress.finish(record)

    def _train(self, progress: Progress) -> float:
        """The rest of an epoch; the seconds spent waiting for data."""
        state, options = self.state, self.options
        self.model.train()
        for module in self.frozen:
            module.eval()
        self.sampler.set_epoch(state.epoch, start=state.batch * options.batch_size)
        sums = torch.tensor((state.loss, state.losses), device=self.device, dtype=torch.float64)
        group: list[int] = []  # image ids of the optimizer step under way
        all_finite = torch.ones(
            (), dtype=torch.bool, device=self.device
        )  # are all its losses that?
        meter, waited = ThroughputMeter(state.batch), 0.0
        with self._stopping_between_steps() as asked:
            for seconds, (images, targets) in timed(self.batches):
                waited += seconds
                i = state.batch
                first = i // options.accumulate * options.accumulate
                # The last group of an epoch may hold fewer batches; its mean is over those it has.
                in_group = min(options.accumulate, self.batches_per_epoch - first)
                last = i + 1 == first + in_group
                terms = self._backward(images, targets, in_group, sync=last)
                loss = terms["loss"].detach()
                usable = loss.isfinite()
                all_finite = usable if first == i else all_finite & usable
                sums += torch.stack((loss.nan_to_num(0.0, 0.0, 0.0), usable.to(loss.dtype)))
                group += [target["image_id"] for target in targets]
                state.batch += 1
                look = None
                if last:
                    step = self._step_number() - 1
                    self._step(step, group, all_finite)
                    group = []
                    if step % options.log_every == 0:
                        self._fetch_skipped()
                        look = self._log_values(step, terms) | meter.read(
                            state.batch, options.batch_size
                        )
                        if self.distributed.is_main:
                            self.files.add({"epoch": state.epoch + 1} | look)
                    if options.save_every and (step + 1) % options.save_every == 0:
                        self._fetch_skipped()
                        state.loss, state.losses = self.distributed.mean(sums).tolist()
                        if self.distributed.is_main and state.batch < self.batches_per_epoch:
                            self._keep()
                    if asked():
                        break
                progress.batch(look)
            if asked():
                self._fetch_skipped()
                state.loss, state.losses = sums.tolist()
                self._keep()
        self._fetch_skipped()
        state.loss, state.losses = self.distributed.mean(sums).tolist()
        if state.losses == 0.0:
            raise self._useless("no batch with a loss that is a number")
        return waited

    def _stopping_between_steps(self) -> AbstractContextManager[Callable[[], bool]]:
        """What is called says whether to stop after this step."""
        # Several processes would have to agree on the step.
        return stopping.deferred() if self.distributed.world_size == 1 else nullcontext(_never)

    def _backward(
        self, images: Tensor, targets: list[Target], in_group: int, *, sync: bool
    ) -> dict[str, Tensor]:
        state, rank = self.state, self.distributed.rank
        position = (self.options.seed * 1_000_003 + state.epoch) * 1_000_003 + state.batch
        torch.manual_seed(position * 1_009 + rank)
        self.denoising_generator.manual_seed(position * 1_009 + rank)
        images = images.to(self.device, non_blocking=True)
        for target in targets:
            target["boxes"] = target["boxes"].to(self.device, non_blocking=True)
            target["labels"] = target["labels"].to(self.device, non_blocking=True)
        network = self.network
        apart: AbstractContextManager[None] = nullcontext()
        if isinstance(network, DistributedDataParallel) and not sync:
            apart = network.no_sync()
        with apart:
            with self.precision.forward():
                out = network(images, targets, self.denoising_generator)
            factor = denoising_factor(state.epoch, self.options.denoising_warmup_epochs)
            terms = criterion(
                self.precision.in_fp32(out), targets, self.losses, factor, self.distributed
            )
            self.precision.scaler.scale(terms["loss"] / in_group).backward()
        return terms

    def _step(self, step: int, image_ids: Sequence[int], all_finite: Tensor) -> None:
        """One optimizer step, or none if the gradient is no number.

        Which of the two is decided on the device: nothing waits for it here.
        """
        factor = self._factor(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        self.before_clipping()
        skipped = ~self.clipping().to(self.device).isfinite()
        if scaler.is_enabled():
            # The scaler leaves out steps itself, and lowers its scale; a gradient that was too
            # large for fp16 is no mistake, only one of a loss that is no number.
            scaler.step(self.optimizer)
            scaler.update()
            skipped = skipped & ~all_finite
        else:
            self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
            self.optimizer.step()
        self.skipped_steps.add(OptimizerStep(step, skipped, image_ids))
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model, step)

    def _fetch_skipped(self) -> None:
        """Counts the steps left out, keeps their images, and stops the run where they are many."""
        state, limit = self.state, self.options.skip_limit
        for step, image_ids in self.skipped_steps.fetch():
            state.skipped += 1
            if self.distributed.is_main:
                record = {"step": step, "epoch": state.epoch + 1, "image_ids": image_ids}
                self.files.add_skipped(record)
            if state.skipped > limit:
                raise self._useless(
                    f"{state.skipped} steps without a gradient that is a number, "
                    f"training.skip_limit is {limit}"
                )

    def _useless(self, what: str) -> UserError:
        return UserError(
            f"{what} in epoch {self.state.epoch + 1}: losses or gradients are not finite. Try a "
            f"lower training.lr (it is {self.options.lr}); the images are listed in "
            f"{self.files.folder / 'skipped.jsonl'}"
        )

    def _log_values(self, step: int, terms: Mapping[str, Tensor]) -> dict[str, Any]:
        values = torch.stack([value.detach() for value in terms.values()]).tolist()
        return {
            "step": step,
            **{f"loss/{name}": value for name, value in zip(terms, values, strict=True)},
            "lr": self.options.lr * self._factor(step),
            **self.clipping.look(),
            "skipped": self.state.skipped,
            "memory_gb": memory_gb(self.device),
        }

    def _metrics(self) -> dict[str, float | None]:
        """What the evaluations say, by the name in the history; None where there was none."""
        epoch, options = self.state.epoch + 1, self.options
        due = epoch == options.epochs or epoch % options.evaluate_every == 0
        found: dict[str, float | None] = {}
        subjects = [("val", self.evaluate, False), ("train", self.evaluate_train, False)]
        if self.ema is not None:
            subjects.append(("val_ema", self.evaluate, True))
        for prefix, evaluate, average in subjects:
            metrics: Mapping[str, float] = {}
            if due and evaluate is not None and self.distributed.is_main:
                self.model.eval()
                with self.ema.applied(self.model) if average and self.ema else nullcontext():
                    metrics = evaluate(self.model)
            found |= {f"{prefix}_{name}": metrics.get(name) for name in METRICS}
        return self.distributed.broadcast([found])[0]  # type: ignore[return-value]

    def _step_number(self) -> int:
        """Optimizer steps so far, those left out included."""
        in_epoch = math.ceil(self.state.batch / self.options.accumulate)
        return self.state.epoch * self.steps_per_epoch + in_epoch

    def _factor(self, step: int) -> float:
        return learning_rate_factor(
            step,
            warmup=round(self.options.warmup_epochs * self.steps_per_epoch),
            total=self.options.epochs * self.steps_per_epoch,
            start=self.options.warmup_start,
            end=self.options.final_lr,
        )

    def _checkpoint(self) -> dict[str, Any]:
        state = self.state
        return {
            "epoch": state.epoch,
            "model": self.model.state_dict(),
            **({"ema": self.ema.state_dict()} if self.ema is not None else {}),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"step": self._step_number()},
            "scaler": self.precision.scaler.state_dict(),
            "best_ap": state.best,
            "best_epoch": state.best_epoch,
            "history": state.history,
            # Random all_finite follow from the recipe's seed and this position.
            "position": {
                "batch": state.batch,
                "loss": state.loss,
                "losses": state.losses,
                "skipped": state.skipped,
            },
            "config": self.config.to_json(),
            "classes": list(self.classes),
            "images": self.images,
            "recipe": self.recipe.model_dump_json(),
            "origin": self.origin,
        }

    def _save(self, improved: bool) -> None:
        if improved:
            with self.ema.applied(self.model) if self.ema is not None else nullcontext():
                self.files.save_model(self.model, self.classes, self.origin)
        # latest.pth last: what comes before it is made again if the run is stopped in between.
        self._keep(best=improved)

    def _keep(self, *, best: bool = False) -> None:
        self.files.save(self._checkpoint(), best=best)
        self._kept = self.state.epoch, self.state.batch

    def _restore(self) -> None:
        checkpoint = self.files.load(self.device)
        refuse_other_run(
            self.files.latest, checkpoint, self.recipe, self.config, self.classes, self.images
        )
        self.model.load_state_dict(checkpoint["model"])
        if self.ema is not None:
            self.ema.load_state_dict(checkpoint["ema"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.precision.scaler.load_state_dict(checkpoint["scaler"])
        self.origin = checkpoint["origin"]
        position = checkpoint["position"]
        self.state = _State(
            epoch=checkpoint["epoch"],
            batch=position["batch"],
            loss=position["loss"],
            losses=position["losses"],
            best=checkpoint["best_ap"],
            best_epoch=checkpoint["best_epoch"],
            skipped=position["skipped"],
            history=checkpoint["history"],
        )
        self._kept = self.state.epoch, self.state.batch

    def _refuse_single_numbers(self) -> None:
        """Batch norm takes no variance of one number: one image whose p6 is a single cell."""
        smallest = min((self.config.image_size, *self.options.sizes()))
        one_image = min(self.options.batch_size, self.images) == 1
        if self.config.norm == "bn" and smallest == STRIDES[-1] and one_image:
            raise UserError(
                f'batches of one image of {smallest} pixels leave batch norm (model.norm "bn") '
                "one number per channel of p6; give a larger training.batch_size or images"
            )

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
        size, count = self.options.batch_size, self.distributed.world_size
        if size % count:
            raise UserError(
                f"training.batch_size is {size}; expected a multiple of {count} processes"
            )
        return loader(
            training_set,
            DistributedBatchSampler(self.sampler, size, self.distributed.rank, count)
            if count > 1
            else self.sampler,
            batch_size=size // count,
            workers=self.options.workers,
            drop_last=count > 1 or len(dataset) >= size,
            pin_memory=self.device.type == "cuda",
        )


def _nothing() -> None: ...


def _never() -> bool:
    return False


def _network(
    model: HybridDetector, distributed: DistributedContext
) -> HybridDetector | DistributedDataParallel:
    """What is called for a forward pass; its parameters are the model's."""
    if distributed.world_size == 1:
        return model
    # Which parameters take part depends on the images: without objects, none of denoising.
    return DistributedDataParallel(model, find_unused_parameters=True)

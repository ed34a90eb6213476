"""The training loop, whatever is trained."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from detector import stopping
from detector.data.training_set import EpochSampler
from detector.disk.lock import locked
from detector.errors import UserError
from detector.training.batch_loader import batch_loader
from detector.training.deterministic import deterministic_kernels
from detector.training.devices import current_device, fork_rng, to_device
from detector.training.distributed import SINGLE_PROCESS, DistributedContext, data_parallel
from detector.training.ema import Ema
from detector.training.optim import adamw, learning_rate_factor
from detector.training.precision import Precision
from detector.training.recipes.named_modules import clipping_of, freeze
from detector.training.run_folder.run_checkpoints import checkpoint_of, restore
from detector.training.run_folder.run_files import RunFiles
from detector.training.run_folder.run_state import EpochSums, RunState
from detector.training.seeds import batch_seed
from detector.training.skipped_steps import SkippedStepTracker
from detector.training.sync_batch_norm import synchronize_norms
from detector.training.task import Progress, Record, Task
from detector.training.throughput import ThroughputMeter, memory_gb, timed


class Trainer:
    """Trains what a task says and leaves everything about the run in one folder.

    The folder gets ``recipe.yaml`` (resolved), ``origin.json`` (where the first weights come from,
    if not from the seed), ``history.json`` and ``curves.png``, ``log.jsonl``, ``latest.pth`` after
    each epoch (and every ``save_every`` steps), ``best.pth`` and what the task exports after each
    epoch with the best score so far. With an average of the weights, that is what is best and what
    is exported. A run without any score keeps the last weights.

    The same recipe gives the same weights: on a CPU, and on a GPU if ``training.deterministic``.
    Whatever is drawn for a batch follows from the recipe's
    seed, the epoch and the batch's number alone, so a run that is resumed after any step repeats no
    draw and skips none: it ends with the weights of a run that was never interrupted.

    With several processes, each trains on its share of every batch; the first writes files and
    evaluates.
    """

    def __init__(
        self,
        task: Task,
        output: Path,
        *,
        device: str = "cpu",
        distributed: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        self.task, self.recipe, self.config = task, task.recipe, task.config
        self.options = options = task.recipe.training
        self.device = torch.device(device)
        self.distributed = distributed
        self.model = task.model.to(self.device)
        self.frozen = freeze(self.model, options.freeze)
        synchronize_norms(self.model, distributed)
        self.network = data_parallel(self.model, distributed)
        self.optimizer = adamw(self.model, options, self.recipe.multipliers())
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.clipping = clipping_of(self.model, options)
        self.precision = Precision(options.precision, self.device)
        self.ema = Ema(self.model, options.ema) if options.ema else None
        self.origin: dict[str, str] = {}  # of the first weights, where they were not drawn
        self.before_clipping: Callable[[], None] = _nothing  # for who looks at gradients
        self.state = RunState()
        self._kept: tuple[int, int] | None = None  # the epochs and batches in latest.pth
        self.skipped_steps = SkippedStepTracker(distributed)
        self.files = RunFiles(output, tensorboard=options.tensorboard and distributed.is_main)
        self.sampler = EpochSampler(
            len(task.items),
            seed=options.seed,
            sizes=task.sizes,
            batch_size=options.batch_size,
        )
        self.batches = batch_loader(task, self.sampler, distributed, self.device)
        self.batches_per_epoch = len(self.batches)
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / options.accumulate)

    def set_initial_weights(self, origin: Mapping[str, str]) -> None:
        """To be told when weights from elsewhere were put into ``model``.

        The average begins with them, too, and the files of the run name their ``origin``.
        """
        self.origin = dict(origin)
        if self.ema is not None:
            self.ema = Ema(self.model, self.ema.decay)

    def run(self, progress: Progress, *, resume: bool = False) -> Path:
        """Trains to the last epoch and returns the path of the best weights.

        Asked to stop (see ``stopping``), it ends its step and keeps it in ``latest.pth``; several
        processes stop at once, and keep what they kept last.
        """
        files = self.files
        with locked(files.folder) if self.distributed.is_main else nullcontext():
            if resume:
                self._restore()
            elif files.latest.exists():
                raise UserError(f"{files.folder} holds a run; give --resume or another folder")
            if self.distributed.is_main:
                step = self.step_number() if resume else None
                files.start(self.recipe.resolved(), self.origin, step)
                if not resume:
                    self.task.write_config(files.folder)
            with current_device(self.device), self.precision.float32_mode(), self._kernels():
                while not self._is_over():
                    self._epoch(progress)
        return self.task.exported(files.folder)

    def _kernels(self) -> AbstractContextManager[None]:
        return deterministic_kernels(required=True) if self.options.deterministic else nullcontext()

    @property
    def kept(self) -> str:
        """How far the run can go on from what is on disk, in words; empty if it cannot."""
        if self._kept is None:
            return ""
        epoch, batch = self._kept
        batches = f" and {batch} of {self.batches_per_epoch} batches of the next" if batch else ""
        return f"{epoch} of {self.options.epochs} epochs{batches}"

    def _is_over(self) -> bool:
        """Are all epochs done, or has there been no better evaluation for too long?"""
        options, epoch = self.options, self.state.epoch
        patience = options.stop_after * options.evaluate_every
        too_long = bool(patience) and epoch - self.state.best_epoch >= patience
        return epoch >= options.epochs or too_long

    def _epoch(self, progress: Progress) -> None:
        state, started = self.state, time.monotonic()
        progress.start(state.epoch + 1, self.options.epochs, self.batches_per_epoch, state.batch)
        with fork_rng(self.device):
            waited = self._train(progress)
        trained = time.monotonic() - started
        record = state.means(self.task.measures) | self._evaluation()
        record["lr_factor"] = self._factor(state.epoch * self.steps_per_epoch)
        record["train_seconds"] = round(trained, 3)
        record["data_wait"] = round(waited / max(trained, 1e-9), 4)
        for name, value in record.items():
            state.history.setdefault(name, []).append(value)
        state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
        score = self.task.score(record, average=self.ema is not None)
        improved = score is not None and score > state.best
        if improved:
            state.best, state.best_epoch = float(score or 0.0), state.epoch
        # Where no evaluation gave a score, as without any object, the last weights are kept.
        improved = improved or (self._is_over() and not state.best_epoch)
        if self.distributed.is_main:
            self.files.save_history(state.history)
            self._save(improved)
        self.distributed.barrier()
        progress.finish(record)

    def _train(self, progress: Progress) -> float:
        """The rest of an epoch; the seconds spent waiting for data."""
        state, options = self.state, self.options
        self.train_mode()
        self.sampler.set_epoch(state.epoch, start=state.batch * options.batch_size)
        sums = EpochSums(self.task.measures, state.sums, self.device)
        meter, waited = ThroughputMeter(state.batch), 0.0
        all_finite: Tensor | None = None  # the losses of the optimizer step under way
        with self._stopping_between_steps() as asked:
            for seconds, batch in timed(self.batches):
                waited += seconds
                first = state.batch // options.accumulate * options.accumulate
                # The last group of an epoch may hold fewer batches; its mean is over those it has.
                in_group = min(options.accumulate, self.batches_per_epoch - first)
                is_last = state.batch + 1 == first + in_group
                terms = self._backward(batch, in_group, sync=is_last)
                finite = sums.add_batch(terms)
                all_finite = finite if all_finite is None else all_finite & finite
                state.batch += 1
                values = None
                if is_last:
                    step = self.step_number() - 1
                    norm, skipped = self._step(step, all_finite)
                    sums.add_step(norm, options.clip, skipped)
                    all_finite = None
                    if step % options.log_every == 0:
                        values = self._log(step, terms, meter)
                    if options.save_every and (step + 1) % options.save_every == 0:
                        self._collect(sums)
                        if self.distributed.is_main and state.batch < self.batches_per_epoch:
                            self._keep()
                    if asked():
                        break
                progress.batch(values)
            if asked():
                self._collect(sums)
                self._keep()
        self._collect(sums)
        if not state.sums["losses"]:
            raise self._diverged("no batch with a finite loss")
        return waited

    def _stopping_between_steps(self) -> AbstractContextManager[Callable[[], bool]]:
        """What is called says whether to stop after this step."""
        # Several processes would have to agree on the step.
        return stopping.deferred() if self.distributed.world_size == 1 else nullcontext(_never)

    def train_mode(self) -> None:
        self.model.train()
        for module in self.frozen:
            module.eval()

    def losses(self, batch: Any, epoch: int, number: int) -> dict[str, Tensor]:
        """The terms of the loss of a batch, with gradients; seeds the global generator."""
        torch.manual_seed(batch_seed(self.options.seed, epoch, number, self.distributed.rank))

        def forward(*args: Any) -> Any:
            return self.precision.forward(self.network, *args)

        return self.task.losses(forward, to_device(batch, self.device), epoch, number)

    def _backward(self, batch: Any, in_group: int, *, sync: bool) -> dict[str, Tensor]:
        no_sync: AbstractContextManager[None] = nullcontext()
        if isinstance(self.network, DistributedDataParallel) and not sync:
            no_sync = self.network.no_sync()
        with no_sync:
            terms = self.losses(batch, self.state.epoch, self.state.batch)
            self.precision.scaler.scale(terms["loss"] / in_group).backward()
        return terms

    def _step(self, step: int, all_finite: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step, skipped if the gradient is NaN or infinite.

        Which of the two is decided on the device: no host sync here. Returns the norm of the
        gradient and whether the step was skipped.
        """
        factor = self._factor(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        self.before_clipping()
        norm = self.clipping().to(self.device)
        skipped = ~norm.isfinite()
        if scaler.is_enabled():
            # The scaler skips steps itself, and lowers its scale; a gradient that was too large
            # for fp16 is no mistake, only one of a loss that is not finite.
            scaler.step(self.optimizer)
            scaler.update()
            self.skipped_steps.add(step, skipped & ~all_finite)
        else:
            self.optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
            self.optimizer.step()
            self.skipped_steps.add(step, skipped)
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model, step)
        return norm, skipped

    def _log(
        self, step: int, terms: Mapping[str, Tensor], meter: ThroughputMeter
    ) -> dict[str, float]:
        """A line of the log; a host sync."""
        self._record_skipped()
        numbers = torch.stack([value.detach() for value in terms.values()]).tolist()
        measures = self.task.measures
        values = {
            "step": step,
            **{
                name if name in measures else f"loss/{name}": number
                for name, number in zip(terms, numbers, strict=True)
            },
            "lr": self.options.lr * self._factor(step),
            **self.clipping.look(),
            "skipped": self.state.skipped,
            "memory_gb": memory_gb(self.device),
            **meter.read(self.state.batch, self.options.batch_size),
        }
        if self.distributed.is_main:
            self.files.add({"epoch": self.state.epoch + 1} | values)
        return values

    def _collect(self, sums: EpochSums) -> None:
        """The sums so far become state; a host sync."""
        self._record_skipped()
        self.state.sums = sums.fetch(self.distributed)

    def _record_skipped(self) -> None:
        """Counts skipped steps, names their images, and stops the run where they are many."""
        state, limit = self.state, self.options.skip_limit
        for step in self.skipped_steps.fetch():
            state.skipped += 1
            if self.distributed.is_main:
                record = {
                    "step": step,
                    "epoch": state.epoch + 1,
                    "image_ids": self._images_of(step),
                }
                self.files.add_skipped(record)
            if state.skipped > limit:
                raise self._diverged(
                    f"{state.skipped} steps with a gradient that is NaN or infinite, "
                    f"training.skip_limit is {limit}"
                )

    def _images_of(self, step: int) -> list[int]:
        """The ids of a step's images, of all processes."""
        size, accumulate = self.options.batch_size, self.options.accumulate
        first = (step - self.state.epoch * self.steps_per_epoch) * accumulate
        end = min(first + accumulate, self.batches_per_epoch)
        order = self.sampler.order(self.state.epoch)[first * size : end * size]
        return [self.task.image_id(index) for index in order]

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"{what} in epoch {self.state.epoch + 1}: losses or gradients are not finite. Try a "
            f"lower training.lr (it is {self.options.lr}); the images are listed in "
            f"{self.files.skipped}"
        )

    def _evaluation(self) -> Record:
        epoch, options = self.state.epoch + 1, self.options
        due = epoch == options.epochs or epoch % options.evaluate_every == 0
        found: Record = {}
        if self.distributed.is_main:
            self.model.eval()
            found = self.task.evaluate(self.ema, due=due)
        return self.distributed.broadcast([found])[0]  # type: ignore[return-value]

    def step_number(self) -> int:
        """Optimizer steps so far, those skipped included."""
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

    def _save(self, improved: bool) -> None:
        if improved:
            self.task.export(
                self.files.folder,
                self.model.state_dict() if self.ema is None else self.ema.average,
                score=self.state.best,
                epoch=self.state.epoch,
                is_average=self.ema is not None,
                origin=self.origin,
            )
        # latest.pth last: what comes before it is made again if the run is stopped in between.
        self._keep(best=improved)

    def _keep(self, *, best: bool = False) -> None:
        self.files.save(checkpoint_of(self), best=best)
        self._kept = self.state.epoch, self.state.batch

    def _restore(self) -> None:
        restore(self, self.files.load(self.device, self.task.kind))
        self._kept = self.state.epoch, self.state.batch


def _nothing() -> None: ...


def _never() -> bool:
    return False

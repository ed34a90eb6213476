"""The training loop, whatever is trained."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from detector import stopping
from detector.checkpoint import load_checkpoint
from detector.data.training_set import EpochSampler
from detector.disk.lock import locked
from detector.errors import UserError
from detector.training.batch_loader import batch_loader
from detector.training.deterministic import deterministic_kernels
from detector.training.devices import current_device, fork_rng, thread_count, to_device
from detector.training.distributed import DistributedContext, data_parallel
from detector.training.ema import Ema
from detector.training.freed_memory import kept_freed_memory
from detector.training.optim import adamw
from detector.training.precision import Precision
from detector.training.recipes.named_modules import clipping_of, freeze
from detector.training.run_folder.resume_check import refuse_other_run
from detector.training.run_folder.run_files import RunFiles
from detector.training.run_folder.run_log import RunLog
from detector.training.run_folder.run_state import EpochSums, RunState, term_values
from detector.training.schedule import Schedule
from detector.training.seeds import batch_seed
from detector.training.skipped_steps import SkippedStepTracker
from detector.training.sync_batch_norm import synchronize_norms
from detector.training.task import Best, Progress, Record, Task
from detector.training.throughput import ThroughputMeter, memory_gb, timed

_MOST_THREADS = 1024  # that a file may ask for


class Trainer:
    """Trains what a task says and leaves everything about the run in one folder.

    The folder gets ``recipe.yaml`` (resolved), ``origin.json`` (where the first weights come from,
    if not from the seed), ``history.json`` and ``curves.png``, ``log.jsonl``, ``latest.pth`` after
    each epoch (and every ``save_every`` steps), ``best.pth`` and what the task exports after each
    epoch with the best score so far. With an average of the weights, that is what is best and what
    is exported. A run without any score keeps the last weights.

    The same recipe gives the same weights: on a CPU, and on a GPU if ``training.deterministic``.
    Whatever is drawn for a batch follows from the recipe's seed, the epoch and the batch's number
    alone, so a run that is resumed after any step repeats no draw and skips none: it ends with the
    weights of a run that was never interrupted.

    With several processes, each trains on its share of every batch; the first writes files and
    evaluates.

    ``data`` holds digests of images and annotations by what they are for, such as "training", that
    a run which resumes has to share.
    """

    def __init__(
        self,
        task: Task,
        output: Path,
        *,
        device: str,
        distributed: DistributedContext,
        data: Mapping[str, str] | None = None,
    ) -> None:
        self.task, self.recipe, self.config = task, task.recipe, task.config
        self.options = options = task.recipe.training
        self.device = torch.device(device)
        self.distributed = distributed
        self.model = task.model.to(self.device)
        with self.recipe.placed():
            self.frozen = freeze(self.model, options.freeze)
            self.clipping = clipping_of(self.model, options)
        synchronize_norms(self.model, distributed)
        self.network = data_parallel(self.model, distributed)
        self.optimizer = adamw(self.model, options, self.recipe.multipliers())
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.precision = Precision(options.precision, self.device)
        self.ema = Ema(self.model, options.ema) if options.ema else None
        self.data = dict(data or {})
        self.origin: dict[str, str] = {}  # of the first weights, where they were not drawn
        self.before_clipping: Callable[[], None] = lambda: None  # for who looks at gradients
        self.state = RunState()
        self._threads: int | None = None  # that the run began with, where it resumes
        self._kept: tuple[int, int] | None = None  # the epochs and batches in latest.pth
        self._since = time.monotonic()  # up to then the state counts seconds
        self.skipped_steps = SkippedStepTracker(distributed)
        self.files = RunFiles(output, log=options.log if distributed.is_main else ())
        self.sampler = EpochSampler(
            len(task.items), seed=options.seed, sizes=task.sizes, batch_size=options.batch_size
        )
        self.batches = batch_loader(task, self.sampler, distributed, self.device)
        self.schedule = Schedule(options, len(self.batches))
        self.log = RunLog(self.files, task, self.sampler, self.schedule, distributed)

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
        files, options = self.files, self.options
        with locked(files.folder) if self.distributed.is_main else nullcontext():
            if resume:
                self.restore(files.latest)
            elif files.latest.exists():
                raise UserError(f"{files.folder} holds a run; give --resume or another folder")
            if self.distributed.is_main:
                files.start(self.recipe.resolved(), self.origin, self.step if resume else None)
                if not resume:
                    self.task.write_config(files.folder)
            self._since = time.monotonic()
            with (
                closing(files),
                current_device(self.device),
                self.precision.float32_mode(),
                deterministic_kernels(required=True) if options.deterministic else nullcontext(),
                kept_freed_memory() if self.device.type == "cpu" else nullcontext(),
                thread_count(self._threads),
            ):
                while not self.state.is_over(options):
                    self._epoch(progress)
        return self.task.exported(files.folder)

    @property
    def step(self) -> int:
        """Optimizer steps so far, those skipped included."""
        return self.schedule.step(self.state.epoch, self.state.batch)

    @property
    def kept(self) -> str:
        """From where the run can resume, in words; empty if it cannot."""
        if self._kept is None:
            return ""
        epoch, batch = self._kept
        total = self.schedule.batches_per_epoch
        batches = f" and {batch} of {total} batches of the next" if batch else ""
        return f"{epoch} of {self.options.epochs} epochs{batches}"

    def _epoch(self, progress: Progress) -> None:
        state, schedule, started = self.state, self.schedule, time.monotonic()
        total = schedule.batches_per_epoch
        progress.start(state.epoch + 1, self.options.epochs, total, state.batch)
        with fork_rng(self.device):
            waited = self._train(progress)
        trained = time.monotonic() - started
        record = state.means(self.task.measures) | self._evaluation()
        record["lr_factor"] = schedule.rate(schedule.step(state.epoch, 0))
        record["train_seconds"] = round(trained, 3)
        record["data_wait"] = round(waited / max(trained, 1e-9), 4)
        improved = state.end_epoch(record, self.task.score(record, average=self.ema is not None))
        # Where no evaluation gave a score, as without any object, the last weights are kept.
        improved = improved or (state.is_over(self.options) and not state.best_epoch)
        if self.distributed.is_main:
            self.files.save_history(state.history)
            if improved:
                self._export_best()
            # latest.pth last: what comes before it is made again if the run is stopped in between.
            self._keep(best=improved)
        self.distributed.barrier()
        progress.finish(record)

    def _train(self, progress: Progress) -> float:
        """The rest of an epoch; the seconds spent waiting for data."""
        state = self.state
        self.train_mode()
        self.sampler.set_epoch(state.epoch, start=state.batch * self.options.batch_size)
        sums = EpochSums(self.task.measures, state.sums, self.device)
        meter, waited = ThroughputMeter(state.batch), 0.0
        all_finite: Tensor | None = None  # the losses of the optimizer step under way
        with self._stopping_between_steps() as asked:
            for seconds, batch in timed(self.batches):
                waited += seconds
                # A smaller last group of an epoch has the mean over the batches that it has.
                in_group, is_last = self.schedule.group(state.batch)
                terms = self._backward(batch, in_group, sync=is_last)
                finite = sums.add_batch(terms)
                all_finite = finite if all_finite is None else all_finite & finite
                state.batch += 1
                values = None
                if is_last:
                    sums.add_step(*self._step(self.step - 1, all_finite), self.options.clip)
                    all_finite = None
                    values = self._after_step(self.step - 1, terms, sums, meter)
                    if asked():
                        break
                progress.batch(values)
            if asked():
                self._collect(sums)
                self._keep()
        self._collect(sums)
        if not state.sums["losses"]:
            raise self.log.diverged(state.epoch, "no batch with a finite loss")
        return waited

    def _stopping_between_steps(self) -> AbstractContextManager[Callable[[], bool]]:
        """What is called says whether to stop after this step."""
        if self.distributed.world_size == 1:
            return stopping.deferred()
        return nullcontext(lambda: False)  # several processes would have to agree on the step

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
        """One optimizer step: the norm of the gradient, and whether the step was skipped."""
        factor = self.schedule.rate(step)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.precision.scaler.unscale_(self.optimizer)
        self.before_clipping()
        norm = self.clipping().to(self.device)
        skipped, failed = self.precision.step(self.optimizer, norm, all_finite)
        self.skipped_steps.add(step, failed)
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self.model, step)
        return norm, skipped

    def _after_step(
        self, step: int, terms: Mapping[str, Tensor], sums: EpochSums, meter: ThroughputMeter
    ) -> dict[str, float] | None:
        """Writes the log line and the checkpoint that are due; returns the former."""
        options, state = self.options, self.state
        values = self._log(step, terms, meter) if step % options.log_every == 0 else None
        if options.save_every and (step + 1) % options.save_every == 0:
            self._collect(sums)
            if self.distributed.is_main and state.batch < self.schedule.batches_per_epoch:
                self._keep()
        return values

    def _log(
        self, step: int, terms: Mapping[str, Tensor], meter: ThroughputMeter
    ) -> dict[str, float]:
        """A line of the log; a host sync."""
        self._record_skipped()
        values = {
            "step": step,
            **term_values(terms, self.task.measures),
            "lr": self.options.lr * self.schedule.rate(step),
            **self.clipping.fetch(),
            "skipped": self.state.skipped,
            "memory_gb": memory_gb(self.device),
            **meter.read(self.state.batch, self.options.batch_size),
        }
        self.log.add(self.state.epoch, values)
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
            self.log.add_skipped(state.epoch, step)
            if state.skipped > limit:
                what = f"{state.skipped} steps with a gradient that is NaN or infinite"
                raise self.log.diverged(state.epoch, f"{what}, training.skip_limit is {limit}")

    def _evaluation(self) -> Record:
        epoch, options = self.state.epoch + 1, self.options
        due = epoch == options.epochs or epoch % options.evaluate_every == 0
        record: Record = {}
        if self.distributed.is_main:
            self.model.eval()
            record = self.task.evaluate(self.ema, due=due)
        return self.distributed.broadcast([record])[0]  # type: ignore[return-value]

    def _keep(self, *, best: bool = False) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._since
        self._since = now
        self.files.save(self._checkpoint(), best=best)
        self._kept = self.state.epoch, self.state.batch

    def _checkpoint(self) -> dict[str, Any]:
        """All that a run resumes from. Random numbers follow from the seed and the position."""
        task = self.task
        return {
            **self.state.to_dict(task.best_name),
            "model": self.model.state_dict(),
            **({"ema": self.ema.state_dict()} if self.ema is not None else {}),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {"step": self.step},
            "scaler": self.precision.scaler.state_dict(),
            **task.about(),
            "classes": list(task.classes),
            "images": len(task.items),
            "data": self.data,
            "recipe": json.dumps(task.recipe.resolved()),
            "origin": self.origin,
            "threads": torch.get_num_threads(),
        }

    def _export_best(self) -> None:
        """Writes the weights by themselves, or their average where the run keeps one."""
        weights = self.model.state_dict() if self.ema is None else self.ema.average
        state, is_average = self.state, self.ema is not None
        best = Best(weights, state.best, state.epoch, is_average, self.origin)
        self.task.export(self.files.folder, best)

    def restore(self, path: Path) -> None:
        """Takes up the run from a checkpoint of it, its latest or its best.

        Raises ``UserError`` for a checkpoint of another run, before anything is changed.
        """
        checkpoint = load_checkpoint(path, self.device, self.task.kind)
        refuse_other_run(path, checkpoint, self.task, self.data)
        self.model.load_state_dict(checkpoint["model"])
        if self.ema is not None:
            self.ema.load_state_dict(checkpoint["ema"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.precision.scaler.load_state_dict(checkpoint["scaler"])
        self.origin = checkpoint["origin"]
        threads = checkpoint.get("threads")  # not of an earlier version
        if self.device.type == "cpu" and isinstance(threads, int):
            self._threads = min(max(threads, 1), _MOST_THREADS)
        self.state = RunState.from_dict(checkpoint, self.task.best_name)
        self._kept = self.state.epoch, self.state.batch

"""Shards of a study, run in one process: some batches of images, some variants."""

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.models.adapter import Adapter, Collector, prepared_batches
from ablate_kit.models.open import open_adapter
from ablate_kit.sweeps.inputs import environment_of
from ablate_kit.sweeps.passes import Advance, Passes
from ablate_kit.sweeps.recipe import SweepRecipe
from ablate_kit.sweeps.variant import Ablated
from detector.data.dataset import Dataset, subset

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    batches: tuple[int, ...]
    keys: Keys  # of variants


@dataclass(frozen=True)
class Done:
    """All detections of some variants on one batch."""

    batch: int
    keys: Keys
    found: list[Detections]
    notes: list[str]


@dataclass(frozen=True)
class Failure:
    """What ended a worker elsewhere. It is told once, for the next worker would not fare better."""

    error: str  # its class
    message: str
    traceback: str
    is_of_memory: bool

    @staticmethod
    def of(error: Exception) -> "Failure | UserError":
        """To be sent to who asked; a user's mistake is sent as it is."""
        if isinstance(error, UserError):
            return error
        message = str(error)
        return Failure(
            type(error).__name__,
            next(iter(message.splitlines()), ""),
            "".join(traceback.format_exception(error)),
            isinstance(error, MemoryError | torch.OutOfMemoryError)
            or "can't allocate memory" in message,
        )

    def raised(self) -> Exception:
        if self.is_of_memory:
            return MemoryError(f"a worker failed: {self.message}; what is done is kept")
        error = RuntimeError(f"a worker failed: {self.error}: {self.message}")
        error.add_note(f"In the worker:\n{self.traceback}")
        return error


@dataclass(frozen=True)
class Settings:
    """How a process runs; no result depends on it."""

    replay: bool = True
    memory: float = 2 << 30  # bytes of recorded outputs
    workers: int = 2  # threads that prepare images


@dataclass(frozen=True)
class Job:
    """All that another process needs to run shards."""

    recipe: SweepRecipe
    inputs: Mapping[str, Any]
    ablations: Mapping[str, Ablation | None]  # by key; None: the unmodified model
    device: str
    trust_remote_code: bool
    settings: Settings


class Worker:
    """Runs shards one after the other; what it learns on the first batch serves all others."""

    def __init__(
        self,
        adapter: Adapter,
        dataset: Dataset,
        ablations: Mapping[str, Ablation | None],
        batch_size: int,
        settings: Settings,
    ) -> None:
        self._adapter = adapter
        self._dataset = dataset
        self._ablations = ablations
        self._size = batch_size
        self._settings = settings
        self._passes: dict[Keys, Passes] = {}

    @staticmethod
    def open(job: Job) -> "Worker":
        """A worker in a process, or on a machine, of its own.

        Raises:
            UserError: the files are not there, or the results would not be the same bytes as those
                of the process that asks.
        """
        torch.set_num_threads(job.inputs["threads"])
        with open_checkpoint(
            Path(job.recipe.model.checkpoint), job.recipe.model.weights
        ) as checkpoint:
            here = environment_of(job.recipe, checkpoint, job.device)
            for name, value in here.items():
                if value != job.inputs[name]:
                    told = f"{value} there, {job.inputs[name]} here"
                    raise UserError(f"a worker has another {name.replace('_', ' ')} ({told})")
            adapter = open_adapter(
                checkpoint,
                job.recipe.model.framework,
                trust_remote_code=job.trust_remote_code,
                device=job.device,
                class_names=job.recipe.model.class_names,
            )
        dataset = job.recipe.data.dataset()
        size = job.recipe.evaluation.batch_size
        return Worker(adapter, dataset, job.ablations, size, job.settings)

    def run(self, shard: Shard, advance: Advance = lambda _, __: None) -> Iterator[Done]:
        """Batch by batch, all variants of the shard."""
        passes = self._passes_of(shard.keys)
        first = 0 if any(self._ablations[key] is None for key in shard.keys) else 1
        spans = {
            batch: range(batch * self._size, min((batch + 1) * self._size, len(self._dataset)))
            for batch in shard.batches
        }
        indices = [i for span in spans.values() for i in span]
        prepared = prepared_batches(
            self._adapter,
            subset(self._dataset, indices),
            [len(span) for span in spans.values()],
            self._settings.workers,
        )
        with passes:
            for (batch, span), images in zip(spans.items(), prepared, strict=True):
                found = [
                    Collector(self._adapter, self._dataset).add(span, one)
                    for one in passes.run(images, advance)[first:]
                ]
                yield Done(batch, shard.keys, found, passes.notes)

    def _passes_of(self, keys: Keys) -> Passes:
        if keys not in self._passes:
            cut = [one for key in keys if (one := self._ablations[key])]
            self._passes[keys] = Passes(
                self._adapter,
                [Ablated.of(one, self._adapter) for one in cut],
                replay=self._settings.replay,
                memory=self._settings.memory,
            )
        return self._passes[keys]

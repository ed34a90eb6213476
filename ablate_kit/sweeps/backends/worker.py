"""Work of a sweep, done in one process: some batches of images, some variants."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablate_kit.errors import UserError
from ablate_kit.models.adapter import Adapter, Prepared
from ablate_kit.models.inference.batches import prepared_batches
from ablate_kit.models.inference.detect import Collector, finite
from ablate_kit.models.labels.own_objects import looked_at_for
from ablate_kit.sweeps.execution.executor import MEMORY, Advance, VariantExecutor
from ablate_kit.sweeps.execution.prepared_images import PreparedImages
from ablate_kit.sweeps.execution.recording_cache import CAPACITY, RecordingCache
from ablate_kit.sweeps.provenance.fingerprint import environment_of
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.scheduling.engine import Report
from ablate_kit.sweeps.scheduling.scheduler import Batches, BatchResult, Work
from detector.data.dataset import Dataset, subset

NOT_FINITE = (
    "gives NaN or infinite numbers in place of all boxes of some images: there it counts as "
    "finding nothing, whatever the part does"
)
PREPARED = 512 << 20  # bytes of prepared images that are kept from round to round of a search


@dataclass(frozen=True)
class RunOptions:
    """How a process runs; no result depends on it."""

    replay: bool = True
    memory: float = MEMORY  # bytes of recorded outputs
    workers: int = 2  # threads that prepare images
    cache: Path | None = None  # recordings of the unmodified model, for later sweeps
    cache_bytes: int = CAPACITY


DEFAULTS = RunOptions()


@dataclass(frozen=True)
class WorkerSpec:
    """All that another process needs to work on a sweep."""

    recipe: SweepRecipe
    inputs: Mapping[str, Any]
    device: str
    trust_remote_code: bool
    options: RunOptions


def prepared_bytes(recipe: SweepRecipe) -> int:
    """Of images that are kept from one round of a search to the next."""
    return PREPARED if recipe.searches or recipe.rankings else 0


class Worker:
    """Does one piece of work after the other, within a ``with`` block.

    What it learns on one batch serves all others, and up to ``keep`` bytes of prepared images serve
    the work that comes later.
    """

    def __init__(
        self,
        adapter: Adapter,
        dataset: Dataset,
        evaluation: EvaluationSettings,
        options: RunOptions,
        keep: int = 0,
    ) -> None:
        self._adapter = adapter
        self._dataset = dataset
        self._batches = Batches(len(dataset), evaluation.batch_size)
        self._options = options
        self._limit = evaluation.max_detections
        self._cache = RecordingCache(options.cache, options.cache_bytes) if options.cache else None
        self._passes = VariantExecutor(
            adapter,
            replay=options.replay,
            memory=options.memory,
            fuse=evaluation.fuse,
            cache=self._cache,
            max_detections=evaluation.max_detections,
        )
        self._notes: dict[str, None] = {}
        self._keep = keep
        self._kept: dict[int, list[Prepared]] = {}

    def __enter__(self) -> "Worker":
        self._passes.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._passes.__exit__(*exception)

    @staticmethod
    def open(spec: WorkerSpec) -> "Worker":
        """A worker in a process, or on a machine, of its own.

        Raises:
            UserError: the files are not there, or the results would not be the same bytes as those
                of the process that asks.
        """
        torch.set_num_threads(spec.inputs["threads"])
        model = spec.recipe.model
        with model.opened() as checkpoint:
            here = environment_of(spec.recipe, checkpoint, spec.device)
            for name, value in here.items():
                asked = spec.inputs.get(name, value)  # an earlier version noted less
                if value != asked:
                    told = f"{value} there, {asked} here"
                    raise UserError(f"a worker has another {name.replace('_', ' ')} ({told})")
            adapter = model.adapter(
                checkpoint, trust_remote_code=spec.trust_remote_code, device=spec.device
            )
        dataset = looked_at_for(spec.recipe.dataset(), adapter.classes)
        keep = prepared_bytes(spec.recipe)
        return Worker(adapter, dataset, spec.recipe.evaluation, spec.options, keep)

    def run(self, work: Work, advance: Advance = lambda _, __: None) -> Iterator[BatchResult]:
        """Batch by batch, all variants of the work."""
        changed = [one for one in work.variants if one.digest]
        for batch, images in self._images(work.batches):
            rows = self._passes.run(images, changed, advance)
            by_digest = {"": rows[0]}
            by_digest |= {one.digest: row for one, row in zip(changed, rows[1:], strict=True)}
            found = {
                digest: Collector(self._adapter, self._dataset, self._limit).add(
                    self._batches.span(batch), row
                )
                for digest, row in by_digest.items()
            }
            asked = {one.digest: found[one.digest] for one in work.variants}
            for one in work.variants:
                if any(len(x.scores) and not finite(x).any() for x in by_digest[one.digest]):
                    self._notes[f"{one.name} {NOT_FINITE}"] = None
            yield BatchResult(batch, asked, (*self._passes.notes, *self._notes), found[""])

    def _images(self, batches: Sequence[int]) -> Iterator[tuple[int, list[Prepared]]]:
        """Each batch, prepared once as long as it is kept."""
        new = [batch for batch in batches if batch not in self._kept]
        indices = [i for batch in new for i in self._batches.span(batch)]
        sizes = [len(self._batches.span(batch)) for batch in new]
        some = subset(self._dataset, indices)
        stored = PreparedImages.of(self._cache, self._adapter, some)
        coming = prepared_batches(self._adapter, some, sizes, self._options.workers, stored)
        for batch in batches:
            images = self._kept[batch] if batch in self._kept else next(coming)
            # The first ones stay: in a pass over all, each would push out the next before its turn.
            nbytes = sum(t.nbytes for one in images for t in one.inputs.values())
            if batch not in self._kept and nbytes <= self._keep:
                self._kept[batch] = images
                self._keep -= nbytes
            yield batch, images


class Here:
    """This process as a pool of one worker; each batch is reported when it is done."""

    def __init__(self, worker: Worker, advance: Advance = lambda _, __: None) -> None:
        self._worker = worker
        self._advance = advance
        self._results: Iterator[BatchResult] = iter(())

    def workers(self) -> Sequence[Hashable]:
        return ["here"]

    def submit(self, worker: Hashable, work: Work) -> None:
        self._results = self._worker.run(work, self._advance)

    def next_report(self) -> Report:
        return Report("here", [next(self._results)])

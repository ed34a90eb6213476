"""Where a run keeps what is done: the numbers of finished variants, the batches of others."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation
from ablate_kit.metrics.result import Result
from ablate_kit.sweeps.scheduling.scheduler import BatchResult, Lacking, lacking
from ablate_kit.sweeps.variants.variant import Variant


class Store(Protocol):
    @property
    def begun(self) -> GroundTruth | None:
        """What detections are compared with, if that was kept."""

    def begin(self, truth: GroundTruth) -> GroundTruth:
        """Keeps what detections are compared with; returns it as it will be read again."""

    def lacking(self, batches: int, variants: Sequence[Variant]) -> Lacking:
        """The batches, of so many, that are to be done, by the variants that they lack."""

    def add(self, result: BatchResult) -> None: ...

    def collect(self, batches: int, variants: Sequence[Variant]) -> Iterator[Detections]:
        """All detections of each variant of which every batch is done."""

    def finish(self, variant: Variant, evaluation: Evaluation, found: Detections) -> None: ...

    def evaluation(self, variant: Variant) -> Evaluation | None:
        """The numbers of a finished variant."""

    def tidy(self) -> None:
        """Forgets the batches of finished variants."""

    def results(self, variants: Sequence[Variant]) -> list[Result]:
        """Of finished variants, under the names that these have."""

    def notes(self) -> list[str]:
        """What did not go as planned."""


class MemoryStore:
    """A run that is gone with the process."""

    def __init__(self) -> None:
        self.begun: GroundTruth | None = None
        self._notes: dict[str, None] = {}
        self._batches: dict[int, dict[str, Detections]] = {}
        self._finished: dict[str, tuple[Evaluation, Detections]] = {}

    def begin(self, truth: GroundTruth) -> GroundTruth:
        self.begun = truth
        return truth

    def lacking(self, batches: int, variants: Sequence[Variant]) -> Lacking:
        pending = {one.digest: one for one in variants if one.digest not in self._finished}
        return lacking(batches, pending, self._batches)

    def add(self, result: BatchResult) -> None:
        self._notes |= dict.fromkeys(result.notes)
        self._batches.setdefault(result.batch, {}).update(result.found)

    def collect(self, batches: int, variants: Sequence[Variant]) -> Iterator[Detections]:
        for one in variants:
            parts = [self._batches[batch][one.digest] for batch in range(batches)]
            yield Detections.concatenate(parts)

    def finish(self, variant: Variant, evaluation: Evaluation, found: Detections) -> None:
        self._finished[variant.digest] = evaluation, found

    def evaluation(self, variant: Variant) -> Evaluation | None:
        found = self._finished.get(variant.digest)
        return found[0] if found else None

    def tidy(self) -> None:
        self._batches.clear()

    def results(self, variants: Sequence[Variant]) -> list[Result]:
        return [self._result(one, *self._finished[one.digest]) for one in variants]

    def notes(self) -> list[str]:
        return list(self._notes)

    @staticmethod
    def _result(one: Variant, numbers: Evaluation, found: Detections) -> Result:
        return Result(one.name, one.kind, numbers, one.digest, lambda: found, one.factors)

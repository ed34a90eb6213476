"""Who decides what runs next, and what becomes of work whose worker is lost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.backends.worker import DEFAULTS, Here, Worker
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.scheduling.engine import Report, run
from ablate_kit.sweeps.scheduling.scheduler import (
    BatchResult,
    Stretches,
    Work,
    lacking,
    rounds_of,
    split,
)
from ablate_kit.sweeps.scheduling.store import MemoryStore
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from detector.data.shapes import Shapes


class Losing:
    """A pool of workers, some of which are lost after so many batches of their first work."""

    def __init__(self, lost_after: Mapping[int, int], count: int) -> None:
        self._lost_after = lost_after
        self._count = count
        self._running: list[tuple[int, list[int], Work]] = []
        self.log: list[tuple[int, Work]] = []

    def workers(self) -> list[int]:
        return list(range(self._count))

    def submit(self, worker: Any, work: Work) -> None:
        self.log.append((worker, work))
        self._running.append((worker, list(work.batches), work))

    def next_report(self) -> Report:
        worker, batches, work = self._running.pop(0)
        done = len(work.batches) - len(batches)
        if self._lost_after.get(worker) == done:
            return Report(worker, [], lost=True)
        found = {one.digest: Detections.concatenate([]) for one in work.variants}
        result = BatchResult(batches.pop(0), found)
        if batches:
            self._running.append((worker, batches, work))
        return Report(worker, [result])


def variants(count: int) -> tuple[Variant, ...]:
    return tuple(
        Variant(str(i), "test", Ablation(str(i), str(i), (Edit(str(i)),))) for i in range(count)
    )


class Listed:
    """A scheduler of a list."""

    def __init__(self, works: Sequence[Work]) -> None:
        self._waiting = list(works)
        self.seen: list[tuple[int, tuple[str, ...]]] = []

    def next(self) -> Work | None:
        return self._waiting.pop(0) if self._waiting else None

    def observe(self, result: BatchResult) -> None:
        self.seen.append((result.batch, tuple(result.found)))


def test_batches_are_asked_for_of_those_that_lack_them() -> None:
    a, b = variants(2)
    pending, done = {"a": a, "b": b}, {0: {"a"}, 1: {"b", "a"}, 3: {"c"}}
    assert lacking(4, pending, done) == {(b,): [0], (a, b): [2, 3]}
    assert lacking(4, {}, done) == {}


def test_a_lost_worker_costs_what_it_had_not_finished() -> None:
    both = variants(2)
    works = split({both: list(range(40))}, 2)
    assert [len(one.batches) for one in works] == [4] * 10
    pool, scheduler, stored = Losing({1: 3}, 2), Listed(works), list[int]()
    notes = run(scheduler, pool, lambda result: stored.append(result.batch))
    assert sorted(stored) == list(range(40))
    assert sorted(batch for batch, _ in scheduler.seen) == list(range(40))
    assert [worker for worker, _ in pool.log].count(1) == 1
    assert pool.log[2 + 1][1].batches == (7,)  # the one that worker 1 had not done
    assert notes == ["a worker was lost; 1 batches were run again"]


def test_no_worker_left_is_told() -> None:
    with pytest.raises(UserError, match="no worker is left"):
        run(Listed(split({variants(1): [0, 1]}, 1)), Losing({0: 1}, 1), lambda _: None)


def test_few_batches_are_split_by_variant() -> None:
    a, b, c, d, e = five = variants(5)
    works = split({five: [7]}, 3)
    assert [one.variants for one in works] == [(a,), (b, c), (d, e)]
    assert {one.batches for one in works} == {(7,)}
    assert [one.variants for one in split({(a,): [0]}, 8)] == [(a,)]
    assert split({five: [1, 2, 3]}, 1) == [Work((1, 2, 3), five)]


def test_a_round_begins_when_the_last_is_scored() -> None:
    """Whatever the order in which workers answer, and though some of a round is done already."""
    first, second = variants(4)[:2], variants(4)[2:]
    log: list[str] = []

    def rounds() -> Any:
        numbers = yield [UNMODIFIED, *first]
        log.append(f"sent {sorted(numbers)}")
        numbers = yield list(second)
        log.append(f"sent {sorted(numbers)}")

    def lacking(wanted: Sequence[Variant]) -> Any:
        return {tuple(wanted): [0, 1, 2] if wanted[0] is UNMODIFIED else [2]}

    def scored(wanted: Sequence[Variant]) -> Any:
        log.append(f"scored {len(wanted)}")
        return {one.digest: None for one in wanted}

    begun: list[int] = []
    scheduler = Stretches(
        rounds_of(rounds(), lacking, scored),
        workers=2,
        begin=lambda works: begun.append(len(works)),
    )
    stored: list[int] = []
    assert run(scheduler, Losing({}, 2), lambda result: stored.append(result.batch)) == []
    assert sorted(stored) == [0, 1, 2, 2, 2]
    assert begun == [3, 2]
    digests = [sorted(["", *(one.digest for one in first)]), sorted(one.digest for one in second)]
    assert log == ["scored 3", f"sent {digests[0]}", "scored 2", f"sent {digests[1]}"]


class Halving:
    """Successive halving: after each batch the half of the variants that found least goes on.

    A scheduler needs no more than this to be run by the engine.
    """

    def __init__(self, variants: Sequence[Variant], batches: int) -> None:
        self.left = list(variants)
        self.asked: list[int] = []  # variants of each batch
        self._batches = iter(range(batches))
        self._waits = False

    def next(self) -> Work | None:
        if self._waits or (batch := next(self._batches, None)) is None:
            return None
        self._waits = True
        self.asked.append(len(self.left))
        return Work((batch,), tuple(self.left))

    def observe(self, result: BatchResult) -> None:
        self._waits = False
        found = {digest: float(one.scores.sum()) for digest, one in result.found.items()}
        self.left.sort(key=lambda one: found[one.digest])
        del self.left[(len(self.left) + 1) // 2 :]


def test_a_scheduler_of_its_own_runs_fewer_variants_batch_by_batch(hybrid: Path) -> None:
    with open_checkpoint(hybrid) as checkpoint:
        cuts = heads_each(attentions(checkpoint.tensors, checkpoint.config))[:6]
        adapter = open_adapter(checkpoint)
    variants = [Variant.of(one) for one in cuts]
    dataset = Shapes(6, seed=5, size=64)
    scheduler, store = Halving(variants, 3), MemoryStore()
    with Worker(adapter, dataset, EvaluationSettings(batch_size=2), DEFAULTS) as worker:
        assert run(scheduler, Here(worker), store.add) == []
    assert scheduler.asked == [6, 3, 2]
    (winner,) = scheduler.left
    assert list(store.lacking(3, [winner])) == []
    stopped = {b: len(those) for those, bs in store.lacking(3, variants).items() for b in bs}
    assert stopped == {1: 3, 2: 4}
    (found,) = store.collect(3, [winner])
    assert np.array_equal(np.unique(found.image), np.arange(6))

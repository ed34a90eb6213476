"""A study comes out the same bytes wherever, and in however many parts, it is run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate_kit.ablations.rule import Source
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.models.device import thread_count
from ablate_kit.models.open import open_adapter
from ablate_kit.sweeps.distribute import distribute, shards_of
from ablate_kit.sweeps.inputs import inputs_of
from ablate_kit.sweeps.ledger import Ledger, Partial
from ablate_kit.sweeps.recipe import SweepRecipe
from ablate_kit.sweeps.study import Where, run_study
from ablate_kit.sweeps.worker import Done, Settings, Shard

RULES = [
    {"kind": "heads", "pattern": "decoder.layers.0.self_attn"},
    {"kind": "layers", "base": "decoder.layers", "part": "cross_attn"},
]
Study = Callable[..., Path]
HERE, DEFAULTS = Where(), Settings()


@pytest.fixture
def study(hybrid: Path, tmp_path: Path) -> Study:
    """Runs a small study in a folder of this name."""

    def study(
        name: str,
        where: Where = HERE,
        settings: Settings = DEFAULTS,
        rules: Sequence[Mapping[str, Any]] = RULES,
    ) -> Path:
        recipe = SweepRecipe.model_validate(
            {
                "model": {"checkpoint": str(hybrid)},
                "data": {"kind": "shapes", "limit": 5},
                "ablations": list(rules),
                "evaluation": {"batch_size": 2},
            }
        )
        folder = tmp_path / name
        dataset = recipe.data.dataset()
        with open_checkpoint(hybrid) as checkpoint:
            ablations = recipe.make(Source(checkpoint))
            adapter = open_adapter(checkpoint)
            inputs = inputs_of(recipe, checkpoint, dataset, where.devices[0])
        run_study(Ledger(folder, inputs), adapter, dataset, ablations, recipe, settings, where)
        return folder

    return study


def contents(folder: Path) -> dict[str, bytes]:
    """All but the note of what had to run in full."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "notes.json"
    }


@pytest.mark.parametrize("settings", [Settings(workers=5), Settings(memory=1 << 20)])
def test_workers_and_memory_change_no_byte(study: Study, settings: Settings) -> None:
    assert contents(study("a", settings=settings)) == contents(
        study("b", settings=Settings(workers=1))
    )


def test_a_process_for_each_device_changes_no_byte(study: Study) -> None:
    """Here for two halves of the CPU."""
    assert contents(study("one")) == contents(study("two", Where(("cpu", "cpu"))))


@pytest.mark.gpu
def test_several_gpus_change_no_byte(study: Study) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    count = torch.cuda.device_count()
    devices = tuple(f"cuda:{i % count}" for i in range(max(2, count)))
    assert contents(study("one", Where(("cuda:0",)))) == contents(study("all", Where(devices)))


def test_batches_that_are_done_are_not_run_again(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a rule was added to the recipe in between: only the new variant runs on them."""
    add, asked = Partial.add, []

    def fails_on_the_second(self: Partial, batch: int, found: dict[str, Detections]) -> None:
        asked.append((batch, len(found)))
        if len(asked) == 2:
            raise UserError("the disk is full")
        add(self, batch, found)

    monkeypatch.setattr(Partial, "add", fails_on_the_second)
    with pytest.raises(UserError, match="the disk is full"):
        study("run", rules=RULES[:1])
    study("run")
    # The unmodified model and four heads; then three layers on batch 0, all eight on the others.
    assert asked == [(0, 5), (1, 5), (0, 3), (1, 8), (2, 8)]
    assert contents(study("whole")) == contents(study("run"))


def test_another_number_of_threads_is_another_run(study: Study) -> None:
    """Sums are split among threads, which changes their last bits."""
    folder = study("run", rules=RULES[1:])
    threads = torch.get_num_threads()
    assert Ledger.threads(folder) == threads
    with thread_count(threads + 1), pytest.raises(UserError, match="of another threads"):
        study("run", rules=RULES[1:])
    assert torch.get_num_threads() == threads


class Losing:
    """A pool whose second worker is lost in its first shard, and whose others stay."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._given: list[tuple[int, Shard]] = []
        self.log: list[tuple[int, Shard]] = []

    def workers(self) -> list[int]:
        return list(range(self._count))

    def give(self, worker: Any, shard: Shard) -> None:
        self._given.append((worker, shard))

    def wait(self) -> tuple[int, list[Done] | None]:
        worker, shard = self._given.pop(0)
        self.log.append((worker, shard))
        if worker == 1:
            return worker, None
        return worker, [Done(batch, shard.keys, [], []) for batch in shard.batches]


def test_a_lost_worker_costs_its_shard() -> None:
    taken: list[int] = []
    shards = shards_of({("a", "b"): list(range(40))}, 2)
    assert [len(one.batches) for one in shards] == [4] * 10
    pool = Losing(2)
    notes = distribute(pool, shards, lambda found: taken.extend(one.batch for one in found))
    assert sorted(taken) == list(range(40))
    assert [worker for worker, _ in pool.log].count(1) == 1
    assert notes == ["a worker was lost; 4 batches were run again"]
    with pytest.raises(UserError, match="no worker is left"):
        distribute(OnlyLosing(1), shards, taken.append)


class OnlyLosing(Losing):
    def wait(self) -> tuple[int, list[Done] | None]:
        return self._given.pop(0)[0], None


def test_few_batches_are_split_by_variant() -> None:
    shards = shards_of({("a", "b", "c", "d", "e"): [7]}, 3)
    assert [one.keys for one in shards] == [("a",), ("b", "c"), ("d", "e")]
    assert {one.batches for one in shards} == {(7,)}
    assert [one.keys for one in shards_of({("a",): [0]}, 8)] == [("a",)]

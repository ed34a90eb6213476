"""A study comes out the same bytes wherever, and in however many parts, it is run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.models.frameworks.hybrid_detector.hybrid import HybridAdapter
from ablate_kit.models.image_detections import ImageDetections
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.backends.worker import RunOptions
from ablate_kit.sweeps.execution.identities import Identities
from ablate_kit.sweeps.execution.live_variant import applied_variant, delta_of
from ablate_kit.sweeps.open_sweep import open_sweep
from ablate_kit.sweeps.run_folder.ledger import ANOTHER_MODEL, Ledger
from ablate_kit.sweeps.run_folder.stored_detections import UnfinishedBatches
from ablate_kit.sweeps.run_sweep import run_sweep
from ablate_kit.sweeps.sweep_folder import ledger_of
from ablate_kit.sweeps.variants.taken_tensors import TakenTensor
from ablate_kit.sweeps.variants.variant import UNMODIFIED, Variant
from detector.training.devices import thread_count
from tests.ablate_kit import run_files
from tests.ablate_kit.small_sweeps import sweep_recipe

RULES = [
    {"kind": "heads", "pattern": "decoder.layers.0.self_attn"},
    {"kind": "layers", "base": "decoder.layers", "part": "cross_attn"},
]
Study = Callable[..., Path]
HERE, DEFAULTS = Placement(), RunOptions()


@pytest.fixture
def study(hybrid: Path, tmp_path: Path) -> Study:
    """Runs a small study in a folder of this name."""

    def study(
        name: str,
        placement: Placement = HERE,
        options: RunOptions = DEFAULTS,
        rules: Sequence[Mapping[str, Any]] = RULES,
    ) -> Path:
        with open_sweep(sweep_recipe(hybrid, rules, 5, batch_size=2), placement) as sweep:
            return run_sweep(sweep, ledger_of(sweep, tmp_path / name), options).ledger.folder

    return study


def contents(folder: Path) -> dict[str, bytes]:
    """All but the note of what had to run in full."""
    return run_files.contents(folder, but=("notes.json",))


@pytest.mark.parametrize("options", [RunOptions(workers=5), RunOptions(memory=1 << 20)])
def test_workers_and_memory_change_no_byte(study: Study, options: RunOptions) -> None:
    assert contents(study("a", options=options)) == contents(
        study("b", options=RunOptions(workers=1))
    )


def test_a_process_for_each_device_changes_no_byte(study: Study) -> None:
    """Here for two halves of the CPU."""
    assert contents(study("one")) == contents(study("two", Placement(("cpu", "cpu"))))


def test_a_gpu_of_a_cluster_has_no_number() -> None:
    with pytest.raises(UserError, match="give cuda with --ray, not cuda:1"):
        Placement(("cuda:1",), ray="auto").check()


def test_batches_that_are_done_are_not_run_again(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a rule was added to the recipe in between: only the new variant runs on them."""
    add, asked = UnfinishedBatches.add, []

    def fails_on_the_second(
        self: UnfinishedBatches, batch: int, found: dict[str, Detections]
    ) -> None:
        asked.append((batch, len(found)))
        if len(asked) == 2:
            raise UserError("the disk is full")
        add(self, batch, found)

    monkeypatch.setattr(UnfinishedBatches, "add", fails_on_the_second)
    with pytest.raises(UserError, match="the disk is full"):
        study("run", rules=RULES[:1])
    study("run")
    # The unmodified model and four heads; then three layers on batch 0, all eight on the others.
    assert asked == [(0, 5), (1, 5), (0, 3), (1, 8), (2, 8)]
    assert contents(study("whole")) == contents(study("run"))


def test_another_model_of_the_same_files_is_told(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one is whose code reads settings from somewhere, that were changed in between."""
    decode = HybridAdapter.decode

    def halved(*given: Any) -> list[ImageDetections]:
        return [replace(one, scores=one.scores / 2) for one in decode(*given)]

    study("a", rules=RULES[:1])
    folder = study("a")
    assert ANOTHER_MODEL not in Ledger.existing(folder).notes()
    monkeypatch.setattr(HybridAdapter, "decode", halved)
    study("a")  # nothing is lacking, so that nothing runs
    assert ANOTHER_MODEL not in Ledger.existing(folder).notes()
    study("a", rules=[*RULES, {"kind": "modules", "pattern": "neck"}])
    assert ANOTHER_MODEL in Ledger.existing(folder).notes()


def test_another_number_of_threads_is_another_run(study: Study) -> None:
    """Sums are split among threads, which changes their last bits."""
    folder = study("run", rules=RULES[1:])
    threads = torch.get_num_threads()
    assert Ledger.threads(folder) == threads
    with thread_count(threads + 1), pytest.raises(UserError, match="of another number of threads"):
        study("run", rules=RULES[1:])
    assert torch.get_num_threads() == threads


def test_variants_are_equal_by_what_they_do() -> None:
    ones, twos = TakenTensor(torch.ones(3)), TakenTensor(torch.full((3,), 2.0))
    a, b = Variant("a", "checkpoint", tensors={"x": ones}), Variant("b", "x", tensors={"x": ones})
    other = Variant("a", "checkpoint", tensors={"x": twos})
    cut = Ablation("cut", "test", (Edit("x"),))
    assert UNMODIFIED.digest == ""
    assert a.digest == b.digest
    assert (
        len(
            {
                a.digest,
                other.digest,
                Variant.of(cut).digest,
                Variant("c", "", cut, a.tensors).digest,
            }
        )
        == 4
    )


def test_a_variant_of_another_checkpoint_can_be_cut_as_well() -> None:
    module = torch.nn.Linear(2, 1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    cut = Ablation("cut", "test", (Edit("bias"),))
    weight, bias = TakenTensor(torch.full((1, 2), 3.0)), TakenTensor(torch.ones(1))
    one = Variant("c", "", cut, {"weight": weight, "bias": bias})
    names = {name: (name,) for name in before}
    with torch.no_grad(), applied_variant(one, module, names):
        assert module(torch.ones(2)).item() == 6
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    delta = delta_of(one, module, Identities(module), names)
    assert set(delta) == {("tensor", "weight"), ("tensor", "bias")}

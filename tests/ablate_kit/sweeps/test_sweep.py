"""A sweep with replay is the sweep without, on real detectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.kinds.heads import heads_each
from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.ablations.kinds.queries import Queries
from ablate_kit.ablations.kinds.resample import HeadsResampled
from ablate_kit.ablations.kinds.units import Units
from ablate_kit.ablations.kinds.zeros import component
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.backends.worker import RunOptions
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run import Sweep, sweep
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_sweep import run
from ablate_kit.sweeps.scheduling.scheduler import Batches
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.small_sweeps import adapter_of, sweep_recipe

PAIRS = EvaluationSettings(batch_size=2)


def check(path: Path, size: int, **options: object) -> None:
    """Sweeps every second head and some modules with and without replay."""
    with open_checkpoint(path) as checkpoint:
        found = attentions(checkpoint.tensors, checkpoint.config)
        ablations: list[Ablation] = heads_each(found)[::3]
        floating = [name for name, info in checkpoint.tensors.items() if info.is_floating]
        modules = sorted({".".join(name.split(".")[:3]) for name in floating})
        for module in modules[::2]:
            names = [name for name in floating if name.startswith(f"{module}.")]
            ablations.append(component(names or [module], module))
        for name in floating[-8:]:
            kind = Units(pattern=name, percent=[50], repeats=2)
            ablations += kind.make(KindContext(checkpoint))
        adapter = open_adapter(checkpoint)
    variants = [Variant.of(one) for one in ablations]
    dataset = Shapes(3, seed=5, size=size)
    a, b = (
        sweep(adapter, dataset, variants, PAIRS, options=RunOptions(replay=replay))
        for replay in (True, False)
    )
    assert a.notes == []
    assert len(a.results) == len(ablations) + 1
    assert_same(a, b)


def assert_same(a: Sweep, b: Sweep) -> None:
    for one, other in zip(a.results, b.results, strict=True):
        assert one.name == other.name
        assert one.evaluation == other.evaluation
        for column in ("image", "boxes", "scores", "labels"):
            x, y = (getattr(result.detections, column) for result in (one, other))
            assert np.array_equal(x, y), (one.name, column)


def test_what_only_a_live_model_can_undergo(hybrid: Path) -> None:
    with open_checkpoint(hybrid) as checkpoint:
        source = KindContext(checkpoint)
        adapter = open_adapter(checkpoint)
        ablations = [
            *Queries(queries=[0, 3]).make(source),
            *Queries(queries=[3, 4], together=True).make(source),
            *HeadsResampled(pattern="decoder.layers.1.*_attn", heads=[1], repeats=2).make(source),
        ]
    variants = [Variant.of(one) for one in ablations]
    a, b = (
        sweep(
            adapter, Shapes(4, seed=5, size=96), variants, PAIRS, options=RunOptions(replay=replay)
        )
        for replay in (True, False)
    )
    assert a.notes == []
    assert_same(a, b)
    assert len({one.detections.scores.tobytes() for one in a.results}) >= 5


def test_the_limit_of_detections_reaches_the_model_and_the_metrics() -> None:
    adapter = adapter_of(SHAPES_TINY)
    dataset = Shapes(2, seed=5, size=96)
    found = {
        limit: sweep(
            adapter, dataset, [], EvaluationSettings(batch_size=2, max_detections=limit)
        ).results[0]
        for limit in (11, 100, 130)
    }
    counts = {limit: np.bincount(one.detections.image) for limit, one in found.items()}
    assert {limit: count.tolist() for limit, count in counts.items()} == {
        11: [11, 11],
        100: [100, 100],
        130: [130, 130],
    }
    assert found[130].evaluation.counts["max_detections"] == 130
    assert "max_detections" not in found[100].evaluation.counts
    scores = found[130].detections.scores.tolist()
    assert found[11].detections.scores.tolist() == scores[:11] + scores[130:141]


def test_a_run_keeps_its_limit_of_detections(hybrid: Path, tmp_path: Path) -> None:
    def recipe(limit: int) -> SweepRecipe:
        necks = {"kind": "modules", "pattern": ["neck.*"]}
        return sweep_recipe(hybrid, [necks], max_detections=limit)

    run(recipe(130), tmp_path / "run")
    ledger = Ledger.existing(tmp_path / "run")
    assert ledger.truth().max_detections == 130
    assert ledger.results()[0].evaluation.counts["max_detections"] == 130
    with pytest.raises(UserError, match="of another limit of detections"):
        run(recipe(100), tmp_path / "run")


def test_the_hybrid_detector(hybrid: Path) -> None:
    check(hybrid, 96)


@pytest.mark.parametrize("kind", ["detr", "deformable_detr", "rt_detr_v2"])
def test_transformers(kind: str, folders: Callable[[str], Path]) -> None:
    pytest.importorskip("transformers")
    check(folders(kind), 64)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_cluster_of_gpus_is_asked_from_a_machine_that_has_one() -> None:
    with pytest.raises(UserError, match=r'device "cuda": .*start it on a node that has one'):
        Placement(("cuda",), ray="127.0.0.1:1").check()


def test_all_names_of_a_cut_are_done_when_it_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "run", {"checkpoint": "ab"})
    truth = ledger.begin(ground_truth(Shapes(2, seed=5, size=96)))
    found = Detections.concatenate([])
    one, again, other = (
        Variant.of(Ablation(name, "any", (Edit("w", value=value),)))
        for name, value in (("one", 0.0), ("again", 0.0), ("other", 1.0))
    )
    assert ledger.done([one, again, other], Batches(2, 1)) == (0, 0)
    ledger.finish(one, evaluate(truth, found), found)
    assert ledger.done([one, again, other], Batches(2, 1)) == (2, 0)
    ledger.finish(other, evaluate(truth, found), found)
    assert ledger.done([one, again, other], Batches(2, 1)) == (3, 2)

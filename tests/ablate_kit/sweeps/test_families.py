"""Checkpoints of several architectures in one evaluation."""

from pathlib import Path

from ablate_kit.sweeps.checkpoint_variants import Family, sweep_families
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.variants.variant import Variant
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.small_sweeps import adapter_of


def test_who_watches_hears_the_names_of_the_checkpoints(tmp_path: Path) -> None:
    adapter = adapter_of(SHAPES_TINY)
    families = [Family(Variant(name, "checkpoint"), adapter) for name in ("one", "two")]
    heard: list[str] = []
    scored: list[tuple[int, int]] = []
    watch = Progress(
        advance=lambda name, _: heard.append(name), score=lambda *told: scored.append(told)
    )
    sweep_families(families, Shapes(2), EvaluationSettings(), folder=tmp_path, progress=watch)
    assert list(dict.fromkeys(heard)) == ["one", "two"]
    assert scored == 2 * [(0, 1), (1, 1)]

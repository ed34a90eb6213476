"""Checkpoints of several architectures in one evaluation."""

from pathlib import Path

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.models.open import open_adapter
from ablate_kit.sweeps.checkpoint_variants import Family, sweep_families
from ablate_kit.sweeps.recipes.evaluation_settings import EvaluationSettings
from ablate_kit.sweeps.run import Progress
from ablate_kit.sweeps.variant import Variant
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY


def test_who_watches_hears_the_names_of_the_checkpoints(tmp_path: Path) -> None:
    with open_checkpoint(SHAPES_TINY) as checkpoint:
        adapter = open_adapter(checkpoint, "hybrid")
    families = [Family(Variant(name, "checkpoint"), adapter) for name in ("one", "two")]
    heard: list[str] = []
    watch = Progress(advance=lambda name, _: heard.append(name))
    sweep_families(families, Shapes(2), EvaluationSettings(), folder=tmp_path, progress=watch)
    assert list(dict.fromkeys(heard)) == ["one", "two"]

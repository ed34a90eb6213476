"""The table of architectures in the docs is what the script finds, for this transformers."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ablate_kit.models.architectures.bundled import BUNDLED

pytest.importorskip("transformers")


def documented(repository: Path) -> dict[str, str]:
    """The table's lines, by architecture."""
    text = (repository / "docs" / "architectures.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return {line.split("|")[1].strip(): line for line in lines[2:]}


def test_the_table_has_every_architecture(
    benchmark: Callable[[str], ModuleType], repository: Path
) -> None:
    from transformers.models.auto import modeling_auto

    known = modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
    asked = modeling_auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES
    models = benchmark("small_detectors").MODELS
    expected = {*known, *asked, *BUNDLED} - {"omdet-turbo"}
    assert {name.split()[0] for name in models} == expected
    assert list(documented(repository)) == list(models)


@pytest.mark.parametrize(
    "name", ["yolos", "dab-detr", "dino_detr Swin", "deim_d_fine", "grounding-dino", "owlv2"]
)
def test_the_table_says_what_the_architectures_do(
    benchmark: Callable[[str], ModuleType], repository: Path, tmp_path: Path, name: str
) -> None:
    benchmark("small_detectors").build(name, tmp_path)
    tried = benchmark("architectures").tried(name, tmp_path)
    assert tried.text() == documented(repository)[name]

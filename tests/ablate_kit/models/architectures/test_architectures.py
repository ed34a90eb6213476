"""The table of architectures in the docs is what the script finds, for this transformers."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ablate_kit.models.architectures.bundled import BUNDLED
from tests.ablate_kit.models.bridge.official_files import computes_the_same, opened_by_transformers
from tests.ablate_kit.small_sweeps import adapter_of

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
    expected = {*known, *asked, *BUNDLED}
    assert {name.split()[0] for name in models} == expected
    assert list(documented(repository)) == list(models)


@pytest.mark.parametrize(
    "name",
    [
        "yolos",
        "dab-detr",
        "dino_detr Swin",
        "deim_d_fine",
        "deformable_detr PVT v2",
        "grounding-dino",
        "omdet-turbo",
    ],
)
def test_the_table_says_what_the_architectures_do(
    benchmark: Callable[[str], ModuleType], repository: Path, tmp_path: Path, name: str
) -> None:
    benchmark("small_detectors").build(name, tmp_path)
    tried = benchmark("architectures").tried(name, tmp_path)
    assert tried.text() == documented(repository)[name]


@pytest.mark.parametrize("name", BUNDLED)
def test_what_save_pretrained_writes_of_ours_opens_in_transformers(
    benchmark: Callable[[str], ModuleType], tmp_path: Path, name: str
) -> None:
    """By the files that go with it, and here without trust in them."""
    benchmark("small_detectors").build(name, tmp_path / "model")
    adapter, copy = adapter_of(tmp_path / "model"), tmp_path / "copy"
    with torch.no_grad():
        for tensor in adapter.module.parameters():
            tensor.add_(torch.randn_like(tensor) / 50)
    adapter.module.save_pretrained(copy)
    adapter.processor.save_pretrained(copy)
    theirs = opened_by_transformers(copy)
    computes_the_same(copy, theirs, 2, 3, 64, 96)
    again = tmp_path / "again"
    theirs.save_pretrained(again)
    adapter.processor.save_pretrained(again)
    computes_the_same(again, adapter.module, 2, 3, 64, 96)

"""The table of architectures in the docs is what the script finds, for this transformers."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def script(repository: Path) -> Iterator[ModuleType]:
    path = repository / "benchmarks" / "architectures.py"
    spec = importlib.util.spec_from_file_location("table_of_architectures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # which its dataclass asks for
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def documented(repository: Path) -> dict[str, str]:
    """The table's lines, by architecture."""
    text = (repository / "docs" / "architectures.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return {line.split("|")[1].strip(): line for line in lines[2:]}


def test_the_table_has_every_architecture(script: ModuleType, repository: Path) -> None:
    from transformers.models.auto import modeling_auto

    known = modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
    assert {name.split()[0] for name in script.MODELS} == set(known)
    assert list(documented(repository)) == list(script.MODELS)


@pytest.mark.parametrize("name", ["yolos", "dab-detr"])
def test_the_table_says_what_the_architectures_do(
    script: ModuleType, repository: Path, tmp_path: Path, name: str
) -> None:
    script.build(name, tmp_path)
    assert script.tried(name, tmp_path).text() == documented(repository)[name]

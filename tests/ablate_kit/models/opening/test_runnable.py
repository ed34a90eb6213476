"""Files whose models transformers computes under other names run as the folders made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.models.labels.classes import ClassNames
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.models.opening.runnable import runnable
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.models.bridge.official_files import no_arguments
from tests.ablate_kit.models.bridge.test_official_files import write

Write = Callable[..., Path]
NAMES = ClassNames(tuple("abcde"), by_id=False)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    write(tmp_path / "best.pth", "detr")
    return tmp_path / "best.pth"


def folder_of(path: Path, model: str | None = None, **how: Any) -> Path | None:
    """Of what runs; None where the file itself does."""
    with open_checkpoint(path) as given, runnable(given, model, **how) as runs:
        return None if runs is given else runs.folder


def test_a_folder_that_is_not_asked_for_is_gone(official: Path, told: list[str]) -> None:
    with open_checkpoint(official) as given, runnable(given, classes=NAMES) as runs:
        folder = runs.folder
        assert folder is not None
        assert folder.name == "best"
        assert open_adapter(runs).classes == NAMES.names
    assert not folder.exists()
    assert f"{official} (model) runs converted (DetrForObjectDetection of transformers)" in told


def test_what_is_assumed_is_told(official: Path, told: list[str]) -> None:
    write(official, "detr", no_arguments)
    folder_of(official)
    assert any("assumed" in note and "8 heads in each attention" in note for note in told), told


def test_a_folder_is_made_once(official: Path, told: list[str]) -> None:
    folder = official.parent / "hf"
    assert folder_of(official, folder=folder) == folder
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert folder_of(official, folder=folder, classes=NAMES) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert [note for note in told if str(folder) in note] == [
        f"{folder} is what {official} (model) was converted to; later runs use it",
        f"{official} (model) runs as {folder}, which was made of it (DetrForObjectDetection of "
        "transformers)",
    ]


def test_a_folder_of_something_else_is_refused(official: Path) -> None:
    folder = official.parent / "hf"
    folder_of(official, folder=folder)
    write(official, "detr", lambda content: content["model"]["query_embed.weight"].add_(1))
    with pytest.raises(UserError, match=r"hf was not made of .*best\.pth"):
        folder_of(official, folder=folder)


def test_a_file_that_runs_as_it_is(official: Path) -> None:
    assert folder_of(SHAPES_TINY) is None
    assert folder_of(official, "libreyolo:detr") is None


def test_mmdetection_runs_converted_unless_it_may_run_itself(
    mmdetection: Write, told: list[str]
) -> None:
    path = mmdetection("detr")
    assert folder_of(path) is not None
    assert folder_of(path, "transformers") is not None
    assert any("--model mmdet --trust-remote-code: MMDetection itself" in note for note in told)
    assert folder_of(path, trusted=True) is None
    assert folder_of(path, "mmdet") is None


def test_what_has_no_counterpart_is_left_to_mmdetection(mmdetection: Write) -> None:
    path = mmdetection(
        "detr",
        lambda content: content["meta"]["cfg"]["model"]["positional_encoding"].update(
            temperature=20
        ),
    )
    assert folder_of(path) is None
    with pytest.raises(UserError, match="temperature is 20"):
        folder_of(path, "transformers")

"""Mistakes in paths are told before anything is imported, or a model is made."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.errors import UserError
from ablate_kit.studies.common import common_recipe
from ablate_kit.sweeps import open_sweep
from ablate_kit.sweeps.api import run
from ablate_kit.sweeps.recipes.sweep_recipe import ModelSection, SweepRecipe
from detector.training.recipes.data_sections import CocoImages

TINY = "builtin:shapes_tiny"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--annotations", "none.json", "--images", "."], "none.json: no such file"),
        (["--annotations", "lines.json", "--images", "."], "this is JSON lines"),
        (["--annotations", "cut.json", "--images", "."], "cut.json: not JSON"),
        (["--images", "none"], "none: no such folder; expected the images of a data set"),
        (["--voc", "none", "--split", "2007:test"], "none: no such folder; expected a VOCdevkit"),
        (["--yolo", "none.yaml"], "none.yaml: no such file"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "study"])
def test_wrong_paths(
    refuse: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cut.json").write_text('{"images": [')
    Path("lines.json").write_text('{"a": 1}\n{"a": 2}\n')
    assert words in refuse(command, TINY, *options, "-o", "run")
    assert not Path("run").exists()


def test_torch_is_not_imported_for_that() -> None:
    script = (
        "import sys; from ablate_kit.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)\n"
    )
    for words in (
        ["sweep", TINY, "--heads", "all", "--annotations", "none.json", "--images", "."],
        ["predict", TINY, "none.png", "-o", "none"],
        ["eval", TINY, "none.pth", "--shapes"],
        ["sweep", "none.pth", "--heads", "all", "--shapes"],
        ["study", "none.pth", "--shapes"],
        ["predict", "none.pth", "none.png", "-o", "none"],
        ["knobs", "none.pth", "--shapes"],
        ["shrink", "none.pth", "-o", "none"],
        ["gradients", "none.pth", "-o", "none"],
        ["patch", TINY, "none.pth", "--shapes"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
        )
        assert done.stdout == "2 False\n"


def test_what_takes_longer_to_find_is_told_before_a_model_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise AssertionError("a model")

    monkeypatch.setattr(open_sweep, "open_adapter", none)
    monkeypatch.setattr("ablate_kit.studies.common.open_adapter", none)
    data = CocoImages(annotations=str(tmp_path / "none.json"), images=str(tmp_path))
    means = {"kind": "channels", "patterns": ["decoder.layers.*.ffn.fc1"], "to": "mean"}
    for line in ({"kind": "component", "patterns": ["backbone"]}, means):
        recipe = SweepRecipe.model_validate(
            {"model": {"checkpoint": TINY}, "data": data.model_dump(), "ablations": [line]}
        )
        with pytest.raises(UserError, match=r"none\.json: no such file"):
            run(recipe, tmp_path / "run")
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        common_recipe(ModelSection(checkpoint=TINY), data, modules=["all"])

"""Mistakes in paths are told before anything is imported, or a model is made."""

import json
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


#: Command lines that name something that is not there, and what is told of it.
WRONG_NAMES = {
    f"sweep {TINY} --heads all --annotations none.json --images .": "none.json: no such file",
    "sweep none.pth --heads all --shapes": "cannot open none.pth",
    "sweep builtin:tiny --heads all --shapes": 'no built-in checkpoint "tiny"',
    "sweep none.yaml": "no recipe none.yaml",
    "sweep builtin:shapes_tinny": 'did you mean "shapes_tiny"?',
    f"sweep {TINY} --heads all --shapes --log tensorbord": 'did you mean "tensorboard"?',
    f"sweep {TINY} --heads all --shapes --model hybird": 'did you mean "hybrid"?',
    "study none.pth --shapes": "cannot open none.pth",
    f"study {TINY} --shapes --class-names none.txt": "none.txt: no such file",
    f"eval {TINY} none.pth --shapes": "cannot open none.pth",
    "eval builtin:shapes_tinny --shapes": 'did you mean "shapes_tiny"?',
    "eval hf:none --shapes": "names no repository of the hub",
    f"eval {TINY} --shapes --model nonsense": 'unknown model "nonsense"; expected hybrid, transf',
    f"predict {TINY} none.png -o none": "none.png: image file is missing",
    f"predict {TINY} . -o none": ". is a folder; give the image files in it",
    "predict none.pth none.png -o none": "cannot open none.pth",
    f"predict {TINY} there.json -o none --compare builtin:tiny": 'no built-in checkpoint "tiny"',
    f"patch {TINY} none.pth --shapes": "cannot open none.pth",
    f"patch builtin:tiny {TINY} --shapes": 'no built-in checkpoint "tiny"',
    "knobs none.pth --shapes": "cannot open none.pth",
    f"knobs {TINY} --shapes": "which knob is to be turned?",
    "shrink none.pth -o none": "cannot open none.pth",
    f"shrink {TINY} --drop none.json -o none": "none.json: no such file",
    f"shrink {TINY} --from . --free -o none": ". is no sweep: it has no inputs.json",
    "mean none.pth decoder --each --shapes -o none": "cannot open none.pth",
    f"mean {TINY} decoder --shapes -o none": "give one of --heads, --each and --channels",
    "swap none.pth pgi=off -o none.safetensors": "cannot open none.pth",
    f"swap {TINY} pgi=off -o none": "expected a name ending in .safetensors",
    f"graft {TINY} --from none.pth -o none.safetensors": "cannot open none.pth",
    "convert none.pth -o none.pth": "cannot open none.pth",
    "score there.json --annotations none.json": "none.json: no such file",
    "score none.json --annotations there.json": "none.json: no such file",
    "report none": "none is no sweep: it has no inputs.json",
    "export . -o none": ". is no sweep: it has no inputs.json",
    "cache none": "none: no such folder",
    "train none.yaml": "no recipe none.yaml",
    "train builtin:shapes_tiny --init none.pth -o none": "cannot open none.pth",
    "train builtin:shapes_tiny --log tensorbord -o none": 'did you mean "tensorboard"?',
    "pretrain builtin:tiny": 'no built-in recipe "tiny"',
    "retrain builtin:modules": 'no built-in recipe "modules"',
    "gradients none.pth -o none": "cannot open none.pth",
    "gradients none.yaml -o none": "no recipe none.yaml",
    "data check none.yaml": "no recipe none.yaml",
}


def test_nothing_heavy_is_imported_to_tell_a_wrong_name(tmp_path: Path) -> None:
    script = (
        "import json, sys\n"
        "from ablate_kit.cli.app import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['ablate', *words.split()]\n"
        "    try: main()\n"
        "    except SystemExit as end: print(end.code, 'torch' in sys.modules, words)\n"
        "    sys.stderr.flush()\n"
    )
    (tmp_path / "there.json").write_text("[]")
    command = [sys.executable, "-c", script, json.dumps(list(WRONG_NAMES))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [f"2 False {words}" for words in WRONG_NAMES]
    told = done.stderr.splitlines()
    for (words, expected), one in zip(WRONG_NAMES.items(), told, strict=True):
        assert expected in one, words
    assert [one.name for one in tmp_path.iterdir()] == ["there.json"]


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

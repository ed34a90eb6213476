"""Mistakes in paths are told before anything is imported, or a model is made."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate_kit.errors import UserError
from ablate_kit.studies.common import common_recipe
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe, load_sweep
from ablate_kit.sweeps.run_sweep import run
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
    f"sweep {TINY} --heads all": "give one data set: --annotations with",
    "study none.pth --shapes": "cannot open none.pth",
    f"study {TINY}": "give one data set: --annotations with",
    f"study {TINY} --shapes --budget 300p": 'cannot read the budget "300p"',
    f"eval {TINY}": "give one data set: --annotations with",
    f"eval {TINY} {TINY} --shapes": "a checkpoint is given twice",
    f"eval {TINY} there.json --shapes --adjust fdx": 'did you mean "fdr"?',
    f"knobs {TINY} --depth": "give one data set: --annotations with",
    f"patch {TINY} there.json --shapes --alpha x": 'cannot read --alpha "x"; expected numbers',
    f"gradients {TINY} --shapes --threshold lows=1 -o none": 'did you mean "low"?',
    f"study {TINY} --shapes --class-names none.txt": "none.txt: no such file",
    f"eval {TINY} none.pth --shapes": "cannot open none.pth",
    "eval builtin:shapes_tinny --shapes": 'did you mean "shapes_tiny"?',
    "eval hf:none --shapes": "names no repository of the hub",
    f"eval {TINY} --shapes --model nonsense": 'unknown model "nonsense"; expected hybrid, transf',
    f"predict {TINY} none.png -o none": "none.png: image file is missing",
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
    "report none": "none is no sweep: there is no such folder",
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


#: Recipes that name something that is not there, each with a command of its own.
_SWEEP = {
    "model": {"checkpoint": TINY},
    "data": {"kind": "shapes"},
    "ablations": [{"kind": "patch", "donor": TINY}],
}
_TRAIN = {"model": {"preset": "tiny"}, "data": {"kind": "voc", "root": "none"}}
RECIPES = {
    "sweep": {
        "checkpoint": _SWEEP | {"model": {"checkpoint": "none.pth"}},
        "framework": _SWEEP | {"model": {"checkpoint": TINY, "framework": "mmdet:none.py"}},
        "folder": _SWEEP | {"model": {"checkpoint": TINY, "framework": "transformers:none"}},
        "names": _SWEEP | {"model": {"checkpoint": TINY, "class_names": "none.txt"}},
        "data": _SWEEP | {"data": {"kind": "coco", "annotations": "none.json", "images": "."}},
        "reference": _SWEEP | {"reference": {"kind": "yolo", "yaml": "none.yaml"}},
        "donor": _SWEEP | {"ablations": [{"kind": "patch", "donor": "none.pth"}]},
        "cluster": _SWEEP | {"evaluation": {"cluster": "none.csv"}},
    },
    "train": {"root": _TRAIN},
    "gradients -o none": {"root": _TRAIN},
    "data check": {"split": _TRAIN | {"data": {"kind": "coco", "val_images": "none"}}},
    "pretrain": {"folder": {"model": {}, "data": {"kind": "folder", "train": "none"}}},
    "retrain": {
        "base": {"base": "none.yaml", "arms": [{"name": "a"}]},
        "pretrained": {"base": "none/there.yaml", "arms": [{"name": "a", "pretrained": "none"}]},
    },
}


def test_files_that_a_recipe_names_are_looked_for_first(tmp_path: Path) -> None:
    expected = {}
    for command, recipes in RECIPES.items():
        for name, values in recipes.items():
            path = tmp_path / f"{command.split()[0]}-{name}.yaml"
            path.write_text(json.dumps(values))
            expected[f"{command} {path.name}"] = f"{path.name}:1:"
    for words, (code, torch, told) in _told(list(expected), tmp_path).items():
        assert (code, torch) == ("2", "False"), told
        assert told.startswith(f"ablate: {expected[words]}"), told
        assert "none" in told
    assert not (tmp_path / "runs").exists()


_SHAPES = {"model": {"preset": "tiny"}, "data": {"kind": "shapes"}}
_ARMS = {"base": "builtin:shapes_tiny", "arms": [{"name": "a"}]}
#: Mistakes in what a recipe says, and what is told of each.
MISTAKES: dict[str, list[tuple[dict[str, Any], str]]] = {
    "sweep": [
        (_SWEEP | {"abltions": []}, 'did you mean "ablations"?'),
        (_SWEEP | {"ablations": [{"kind": "head"}]}, 'did you mean "heads"?'),
        (_SWEEP | {"ablations": [{"kind": "heads-mean", "patern": "**"}]}, '"pattern"?'),
        (_SWEEP | {"evaluation": {"margin": "much"}}, "evaluation.margin"),
    ],
    "train": [
        (_SHAPES | {"trainig": {}}, 'did you mean "training"?'),
        (_SHAPES | {"model": {"preset": "tiny", "denoisng": "none"}}, 'did you mean "denoising"?'),
        (_SHAPES | {"model": {"num_classes": "many"}}, "num_classes"),
        (_SHAPES | {"training": {"losses": {"box": 1.0}}}, 'did you mean "boxes"?'),
        (_SHAPES | {"training": {"multipliers": {"nek": 1.0}}}, 'did you mean "neck"?'),
        (_SHAPES | {"training": {"losses": {"iou": 1.0}}}, "no effect without model.iou_head"),
    ],
    "gradients -o none": [(_SHAPES | {"model": {"widthss": [8]}}, 'did you mean "widths"?')],
    "data check": [(_SHAPES | {"data": {"kind": "shape"}}, 'did you mean "shapes"?')],
    "pretrain": [
        (_SHAPES | {"augmentation": {"flp": 0.5}}, 'did you mean "flip"?'),
        (_SHAPES | {"model": {"aux_loss": False}}, "no effect on the backbone or the neck"),
    ],
    "retrain": [
        (_ARMS | {"arms": [{"nme": "a"}]}, 'did you mean "name"?'),
        (_ARMS | {"arms": [{"name": "a", "set": {"model.pgii": "off"}}]}, 'did you mean "pgi"?'),
        (_ARMS | {"set": {"model.num_classes": "many"}}, "num_classes"),
    ],
}


def test_nothing_heavy_is_imported_to_tell_a_mistake_in_a_recipe(tmp_path: Path) -> None:
    expected = {}
    for command, recipes in MISTAKES.items():
        for number, (values, words) in enumerate(recipes):
            path = tmp_path / f"{command.split()[0]}-{number}.yaml"
            path.write_text(json.dumps(values))
            expected[f"{command} {path.name}"] = words
    for command, (code, torch, told) in _told(list(expected), tmp_path).items():
        assert (code, torch) == ("2", "False"), told
        assert expected[command] in told, told
    assert not (tmp_path / "runs").exists()


def test_files_that_a_recipe_names_in_vain_are_not_looked_for(
    tmp_path: Path, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(json.dumps(_TRAIN))
    Path("sweep.yaml").write_text(json.dumps(RECIPES["sweep"]["framework"] | {"data": {}}))
    other = ("--shapes", "--lr", -1, "-o", "none")
    assert "--lr is -1" in refuse("gradients", "recipe.yaml", *other)
    assert "data" in refuse("sweep", "sweep.yaml", "--model", "hybrid")
    Path("sweep.yaml").write_text(json.dumps(RECIPES["sweep"]["data"]))
    changed = ("--set", "data={kind: shapes}", "--set", "ablations=[]")
    assert "ablations" in refuse("sweep", "sweep.yaml", *changed)


def test_nothing_heavy_is_imported_to_tell_a_wrong_name(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("[]")
    for words, (code, torch, told) in _told(list(WRONG_NAMES), tmp_path).items():
        assert (code, torch) == ("2", "False"), words
        assert WRONG_NAMES[words] in told, words
    assert [one.name for one in tmp_path.iterdir()] == ["there.json"]


def _told(commands: list[str], folder: Path) -> dict[str, tuple[str, str, str]]:
    """Of each command its exit code, whether torch was imported by then, and what it told."""
    script = (
        "import json, sys\n"
        "from ablate_kit.cli.app import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['ablate', *words.split()]\n"
        "    try: main()\n"
        "    except SystemExit as end: print(end.code, 'torch' in sys.modules)\n"
        "    sys.stderr.flush()\n"
    )
    command = [sys.executable, "-c", script, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    codes = [line.split() for line in done.stdout.splitlines()]
    told = done.stderr.splitlines()
    return {
        words: (code, torch, line)
        for words, (code, torch), line in zip(commands, codes, told, strict=True)
    }


def test_what_takes_longer_to_find_is_told_before_a_model_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise AssertionError("a model")

    monkeypatch.setattr(ModelSection, "adapter", none)
    data = CocoImages(annotations=str(tmp_path / "none.json"), images=str(tmp_path))
    means = {"kind": "channels", "pattern": ["decoder.layers.*.ffn.fc1"], "to": "mean"}
    for line in ({"kind": "component", "pattern": ["backbone"]}, means):
        recipe = SweepRecipe.model_validate(
            {"model": {"checkpoint": TINY}, "data": data.model_dump(), "ablations": [line]}
        )
        with pytest.raises(UserError, match=r"none\.json: no such file"):
            run(recipe, tmp_path / "run")
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        common_recipe(ModelSection(checkpoint=TINY), data, modules=["all"])


def test_what_follows_a_framework_s_name_is_a_path_only_where_it_takes_one(tmp_path: Path) -> None:
    for given, expected in {
        "torchvision:retinanet_resnet50_fpn": "torchvision:retinanet_resnet50_fpn",
        "libreyolo:dfine:s": "libreyolo:dfine:s",
        "mmdet:config.py": f"mmdet:{tmp_path / 'config.py'}",
        "transformers:folder": f"transformers:{tmp_path / 'folder'}",
        "hybrid": "hybrid",
    }.items():
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(_SWEEP | {"model": {"checkpoint": TINY, "framework": given}}))
        assert load_sweep(path).model.framework == expected

"""``--model python:FILE.py:NAME`` in the commands."""

import os
from pathlib import Path

import pytest
import torch

from ablate_kit.cli.model_options import ModelOptions
from tests.ablate_kit.conftest import Run

ATTENTION = """
import torch
from torch import nn
import ablate_kit as ak

class Attention(nn.Module):
    n_heads = 2

    def __init__(self):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        three = (self.wq(x), self.wk(x), self.wv(x))
        q, k, v = (one.unflatten(-1, (2, 4)).transpose(1, 2) for one in three)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.wo(mixed.transpose(1, 2).flatten(2))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.attn = nn.Conv2d(3, 8, 16, 16), Attention()

    def forward(self, images):
        return self.attn(self.stem(images).flatten(2).transpose(1, 2))

def build(checkpoint, device):
    net = Net()
    net.load_state_dict(checkpoint.state_dict())
    prepare = lambda image: torch.tensor(image[:64, :64]).permute(2, 0, 1) / 255
    return ak.wrap(net, classes=["a"], prepare=prepare, decode=None, device=device)
"""

RECIPE = """
model: {{checkpoint: {checkpoint}{more}}}
data: {{kind: shapes, limit: 2}}
ablations:
  - {{kind: modules, pattern: ["backbone.*", head]}}
evaluation: {{resamples: 20}}
"""


def test_evaluated_and_swept(run: Run, shown: tuple[Path, Path], tmp_path: Path) -> None:
    code, weights = shown
    model = ("--model", f"python:{code}:build")
    out = run("eval", weights, *model, "--shapes", "--limit", 2, "--resamples", 0)
    assert "my: COCO metrics" in out
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.format(checkpoint=weights, more=""))
    out = run("sweep", recipe, *model, "-o", tmp_path / "out")
    assert "3 variants on 2 images" in out
    again = run("sweep", recipe, *model, "-o", tmp_path / "out")
    assert "resuming: 3 of 3 variants are done" in again


def test_code_that_no_recipe_can_name_is_told_to_be_named_again(
    run: Run, refuse: Run, shown: tuple[Path, Path], tmp_path: Path
) -> None:
    code, weights = shown
    model = f"python:{code}:build"
    given = ModelOptions(model=model, trust_remote_code=True)
    assert given.beside_recipe() == f" --model {model} --trust-remote-code"  # of a study's end
    assert ModelOptions(model="hybrid").beside_recipe() == ""
    first, other = tmp_path / "first", tmp_path / "other.pth"
    cut = ("--modules", "head", "--shapes", "--limit", 2)
    run("sweep", weights, "--model", model, *cut, "-o", first)
    torch.save({k: v * 1.01 for k, v in torch.load(weights).items()}, other)
    told = refuse("replicate", first, other)
    assert f"code of your own ran the model of {first}" in told
    assert told.endswith(f"name it for the others, too: --model {model}\n")
    assert "1 cut on 2 images" in run("replicate", first, other, "--model", model)


def test_a_run_goes_on_from_another_folder_and_says_how_it_is_made_again(
    run: Run, shown: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, weights = shown
    folder = tmp_path / "runs/first"
    monkeypatch.chdir(code.parent)
    cut = ("--modules", "head", "--shapes", "--limit", 2)
    run("sweep", weights, "--model", f"python:{code.name}:build", *cut, "-o", folder)
    model = f"python:{os.path.relpath(code, folder)}:build"
    page = (folder / "report/report.html").read_text()
    assert f"ablate sweep recipe.yaml -o again --model {model}<" in page
    monkeypatch.chdir(folder)
    again = run("sweep", "recipe.yaml", "--model", model, "-o", folder)
    assert "resuming: 1 of 1 variants are done" in again


def test_means_know_the_heads_that_the_module_says(run: Run, tmp_path: Path) -> None:
    code, weights = tmp_path / "net.py", tmp_path / "net.pth"
    code.write_text(ATTENTION)
    linear = {f"attn.{one}": torch.nn.Linear(8, 8) for one in ("wq", "wk", "wv", "wo")}
    modules = {"stem": torch.nn.Conv2d(3, 8, 16, 16), **linear}
    torch.save({f"{name}.{key}": value for name, module in modules.items()
                for key, value in module.state_dict().items()}, weights)  # fmt: skip
    model = ("--model", f"python:{code}:build", "--shapes", "--limit", 2)
    run("mean", weights, "attn", "--each", *model, "-o", tmp_path / "means")
    made = [path.name for path in sorted((tmp_path / "means").glob("*.pth"))]
    assert made == ["attn-head0-mean.pth", "attn-head1-mean.pth"]


def test_a_recipe_names_no_code(
    refuse: Run, run: Run, shown: tuple[Path, Path], tmp_path: Path
) -> None:
    code, weights = shown
    ran = tmp_path / "ran"
    code.write_text(f"open({str(ran)!r}, 'w').close()\n{code.read_text()}")
    recipe = tmp_path / "r.yaml"
    framework = f"python:{code}:build"
    recipe.write_text(RECIPE.format(checkpoint=weights, more=f", framework: '{framework}'"))
    told = refuse("sweep", recipe, "-o", tmp_path / "out")
    assert "r.yaml:2:" in told
    assert (
        f"a recipe cannot name code to run; whoever runs it can, with --model {framework}" in told
    )
    assert not ran.exists()
    assert not (tmp_path / "out").exists()
    run("sweep", recipe, "--set", f"model.framework='{framework}'", "--dry-run")
    assert ran.exists()


def test_what_nothing_recognizes(refuse: Run, shown: tuple[Path, Path]) -> None:
    told = refuse("eval", shown[1], "--shapes", "--limit", 1)
    assert "my.pth is of no framework that is recognized" in told
    assert "python:FILE.py:NAME (docs/your-own-detector.md)" in told
    told_whole = "mmdet:CONFIG.py, libreyolo (official files of YOLOX, RTMDet ...)"
    assert told_whole in told  # nothing is left out


def test_no_training_is_known(refuse: Run, shown: tuple[Path, Path], tmp_path: Path) -> None:
    model = f"python:{shown[0]}:build"
    told = refuse("gradients", shown[1], "--model", model, "--shapes", "-o", tmp_path / "g")
    assert f"no training is known for models of {model}" in told

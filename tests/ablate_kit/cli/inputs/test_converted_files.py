"""Commands that run a model take files of official repositories as they are."""

import gc
import json
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

import ablate_kit as ak
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.model_section import ModelSection
from ablate_kit.sweeps.run_folder.ledger import Ledger
from tests.ablate_kit.conftest import Ablate, Run
from tests.ablate_kit.models.bridge.test_official_files import write

NAMES = ("disc", "square", "triangle", "star", "cross")
HEADS = "model.decoder.layers.0.self_attn"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(Path("best.pth"), "detr")
    Path("names.txt").write_text("\n".join(NAMES))
    return tmp_path


OF_FILE = ["model.checkpoint=best.pth", "data.limit=2"]
DATA = ("--shapes", "--limit", "4", "--class-names", "names.txt")


def test_a_sweep_leaves_the_folder_beside_its_own(here: Path, run: Run) -> None:
    run("sweep", "best.pth", "--heads", HEADS, *DATA, "-o", "runs/heads")
    folder = here / "runs" / "best-transformers"
    recipe = yaml.safe_load(Path("runs/heads/recipe.yaml").read_text())
    assert recipe["model"]["checkpoint"] == str(folder)
    run("sweep", folder, "--heads", HEADS, *DATA, "-o", "runs/folder")
    of_file, of_folder = (Ledger.existing(Path("runs", one)) for one in ("heads", "folder"))
    assert of_file.inputs == of_folder.inputs
    assert [one.name for one in of_file.results()] == [one.name for one in of_folder.results()]
    for ours, theirs in zip(of_file.results(), of_folder.results(), strict=True):
        assert ours.evaluation.overall == theirs.evaluation.overall
    run("sweep", "runs/heads/recipe.yaml", "-o", "runs/again")
    assert Ledger.existing(Path("runs/again")).inputs == of_file.inputs


def test_a_recipe_may_name_the_file(here: Path, run: Run) -> None:
    recipe = {
        "model": {"checkpoint": "best.pth", "class_names": "names.txt"},
        "data": {"kind": "shapes", "limit": 4},
        "ablations": [{"kind": "component", "pattern": ["model.encoder.layers.*"]}],
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "model.encoder.layers.all" in run("sweep", "recipe.yaml", "-o", "runs/encoder")


def test_a_dry_run_leaves_nothing(here: Path, run: Run) -> None:
    assert "top-level parts" in run("study", "best.pth", *DATA, "--dry-run")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("study", "best.pth", "--budget", "60 passes"),
        ("sweep", "best.pth", "--heads", HEADS),
        ("patch", "best.pth", "later.pth"),
    ],
)
def test_what_is_refused_leaves_no_folder_that_it_made(
    here: Path, ablate: Ablate, command: tuple[str, ...]
) -> None:
    write(Path("later.pth"), "detr", lambda content: content["model"]["query_embed.weight"].add_(1))
    Path("others.txt").write_text("\n".join("abcde"))
    other = ("--shapes", "--limit", "4", "--class-names", "others.txt", "-o", "runs/it")
    printed = ablate(*command, *other)
    assert printed.code == 2
    assert "have no name in common" in printed.err
    assert "best.pth (model) runs converted" in printed.err
    assert "-transformers" not in printed.err
    assert not Path("runs").exists()


def test_what_is_refused_leaves_a_folder_that_was_there(
    here: Path, run: Run, ablate: Ablate
) -> None:
    run("convert", "best.pth", "--to", "transformers", "-o", "runs/best-transformers")
    Path("others.txt").write_text("\n".join("abcde"))
    other = ("--shapes", "--limit", "4", "--class-names", "others.txt", "-o", "runs/it")
    assert ablate("sweep", "best.pth", "--heads", HEADS, *other).code == 2
    assert [one.name for one in Path("runs").iterdir()] == ["best-transformers"]


READER = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH)
print(flush=True)
sys.stdin.read()
"""


def test_what_is_refused_leaves_what_another_process_uses(here: Path) -> None:
    section, runs = ModelSection(checkpoint="best.pth"), Path("runs/it")
    with pytest.raises(UserError), section.runnable(runs, trusted=False):
        raise UserError("no")
    assert not Path("runs").exists()
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(UserError))
        made = stack.enter_context(section.runnable(runs, trusted=False))
        other = subprocess.Popen(
            [sys.executable, "-c", READER, made.checkpoint],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert other.stdout
        assert other.stdout.readline()
        raise UserError("no")
    other.communicate(b"")
    assert Path("runs/best-transformers/config.json").exists()


def test_a_run_that_was_begun_keeps_its_folder(here: Path, run: Run) -> None:
    run("sweep", "best.pth", "--heads", HEADS, *DATA, "-o", "runs/heads")
    shutil.rmtree("runs/best-transformers")
    section = ModelSection(checkpoint="best.pth")
    with pytest.raises(UserError), section.runnable(Path("runs/heads"), trusted=False):
        raise UserError("no")
    assert Path("runs/best-transformers/config.json").exists()


def test_a_study_is_made_once(here: Path, run: Run) -> None:
    study = ("study", "best.pth", *DATA, "-o", "runs/study", "--budget", "60 passes")
    first = run(*study)
    assert "78 cuts on 4 of 4 images" in first
    assert run(*study).splitlines()[-1] == first.splitlines()[-1]


def test_other_commands_leave_no_folder(here: Path, run: Run) -> None:
    printed = run("eval", "best.pth", *DATA, "-o", "runs/report")
    assert "best: per class" in printed
    run("knobs", "best.pth", "--depth", "--rounds", "0", *DATA, "-o", "runs/knobs")
    assert sorted(one.name for one in Path("runs").iterdir()) == ["knobs", "report"]


def test_a_smaller_one_of_a_file(here: Path, run: Run) -> None:
    """With the folder that the receipt tells of beside it."""
    model = ak.load("best.pth")
    (cut,) = model.ablations("hidden-units", pattern="model.encoder.**", percent=[50])
    Path("cut.json").write_text(json.dumps(cut.to_dict()))
    small = ("--class-names", "names.txt", "-o")
    asked = ("shrink", "best.pth", "--drop", "cut.json")
    assert "encoder_ffn_dim" in run(*asked, "--dry-run", *small, "smaller/units")
    assert not Path("smaller").exists()
    assert "encoder_ffn_dim" in run(*asked, *small, "smaller/units")
    assert "decoder_layers: 1" in run("shrink", "best.pth", "--depth", "1", *small, "smaller/first")
    assert sorted(one.name for one in Path("smaller").iterdir()) == [
        "best-transformers", "first", "units"
    ]  # fmt: skip
    for folder in ("smaller/units", "smaller/first"):
        run("verify", folder)
        assert ak.load(folder).classes == NAMES


def test_in_python(here: Path, run: Run) -> None:
    model = ak.load("best.pth", class_names="names.txt")
    assert model.classes == NAMES
    cuts = model.heads(HEADS)
    data = ak.shapes(limit=4)
    assert len(ak.sweep(model, data, cuts, resamples=0).results) == 1 + len(cuts)
    assert sorted(one.name for one in here.iterdir()) == ["best.pth", "names.txt"]
    ak.sweep(model, data, cuts, output="runs/python")
    run("sweep", "best.pth", "--heads", HEADS, *DATA, "-o", "runs/command")
    ours, theirs = (Ledger.existing(Path("runs", one)) for one in ("python", "command"))
    assert ours.inputs == theirs.inputs
    for one, other in zip(ours.results(), theirs.results(), strict=True):
        assert (one.name, one.evaluation.overall) == (other.name, other.evaluation.overall)
    again = ak.run_recipe("runs/command/recipe.yaml", "runs/again", settings=OF_FILE)
    assert [one.name for one in again.results] == [one.name for one in ours.results()]
    (copy,) = model.write(cuts[0], "copies/heads")
    assert copy.is_dir()
    run("verify", copy)
    ak.study(model, data, budget="20 passes", output="runs/study")
    folders = {one.name for one in Path("runs").iterdir()}
    assert folders == {"python", "command", "again", "study", "best-transformers"}


def test_what_python_made_is_gone_with_the_model(here: Path) -> None:
    model = ak.load("best.pth")
    kept = model._converted
    assert kept is not None
    folder = kept.path
    assert (folder / "config.json").exists()
    del model, kept
    gc.collect()
    assert not folder.parent.exists()


def test_modules_of_one_file_into_another(here: Path, run: Run) -> None:
    write(Path("later.pth"), "detr", lambda content: content["model"]["query_embed.weight"].add_(1))
    assert "1 module differs" in run("patch", "best.pth", "later.pth", *DATA, "-o", "runs/patch")
    donor = yaml.safe_load(Path("runs/patch/recipe.yaml").read_text())["ablations"][0]["donor"]
    assert donor == str(here / "runs" / "later-transformers")

"""A framework is one file: it is told, opened, identified, evaluated, swept and trained by it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ablate_kit import registry
from ablate_kit.ablations.attention import attentions
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.anatomy.anatomy import USUAL, Anatomy
from ablate_kit.anatomy.layouts import Layout
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.models.inference.detect import detect_all
from ablate_kit.models.labels.truth import ground_truth
from ablate_kit.models.opening.framework_registry import BUILT_IN, FRAMEWORKS, USAGE, choose
from ablate_kit.models.opening.open import open_adapter
from ablate_kit.sweeps.open_sweep import open_sweep
from ablate_kit.sweeps.provenance.fingerprint import environment_of
from ablate_kit.sweeps.recipes.sweep_recipe import SweepRecipe
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_sweep import run_sweep
from ablate_kit.sweeps.sweep_folder import ledger_of
from detector.data.formats.coco import Coco

TOY = '''
"""Finds the bright pixels of an image: all of it that a framework is."""

from pathlib import Path

import torch
from torch import nn

from ablate_kit.anatomy.anatomy import Anatomy
from ablate_kit.models.framework import Framework
from ablate_kit.models.frameworks.wrap import wrap


class Brightness(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 1, 1)
        self.beams = nn.Parameter(torch.ones(2, 1))

    def forward(self, images):
        return self.beams.mean() * self.mix(images)[:, 0]


def pixels(image):
    return torch.tensor(image).permute(2, 0, 1) / 255


def boxes(maps, sizes):
    found = []
    for one in maps:
        rows, columns = torch.nonzero(one > 0.5, as_tuple=True)
        if len(rows) == 0:
            found.append((torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)))
            continue
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        found.append((box[None].float(), one.max()[None], torch.zeros(1, dtype=torch.long)))
    return found


def opened(checkpoint, request):
    net = Brightness()
    net.load_state_dict(checkpoint.state_dict())
    return wrap(net, classes=["light"], prepare=pixels, decode=boxes, device=request.device)


FRAMEWORK = Framework(
    opened,
    takes="[:NOTES]",
    recognizes=lambda checkpoint: "mix.weight" in checkpoint.tensors,
    files=lambda place: [Path(place)] if place else [],
    anatomy=Anatomy(query_tables=("beams",)),
)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the toy framework, which is installed as pip would: one file, and what says
    that it is an adapter."""
    (tmp_path / "toy_detectors.py").write_text(TOY)
    about = tmp_path / "toy_detectors-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-detectors\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[ablate_kit.adapters]\ntoy = toy_detectors:FRAMEWORK\nbroken = toy_detectors:GONE\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._installed.cache_clear()
    weights = {
        "mix.weight": torch.full((1, 3, 1, 1), 1 / 3),
        "mix.bias": torch.zeros(1),
        "beams": torch.ones(2, 1),
    }
    torch.save(weights, tmp_path / "toy.pth")
    yield tmp_path / "toy.pth"
    registry._installed.cache_clear()


@pytest.fixture
def lights(tmp_path: Path) -> dict[str, Any]:
    """Three dark images with one bright rectangle each, as a recipe names them."""
    images, notes = [], []
    for i in range(3):
        canvas = np.zeros((40, 60, 3), np.uint8)
        canvas[5 : 15 + i, 10 * i + 3 : 10 * i + 23] = 255
        Image.fromarray(canvas).save(tmp_path / f"{i}.png")
        box = [10 * i + 3, 5, 20, 10 + i]
        images.append({"id": i + 1, "file_name": f"{i}.png", "width": 60, "height": 40})
        notes.append({"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": box,
                      "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    path = tmp_path / "lights.json"
    truth = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "light"}]}
    path.write_text(json.dumps(truth))
    return {"kind": "coco", "annotations": str(path), "images": str(tmp_path)}


def recipe_of(toy: Path, lights: dict[str, Any], framework: str | None) -> SweepRecipe:
    return SweepRecipe.model_validate(
        {
            "model": {"checkpoint": str(toy), "framework": framework},
            "data": lights,
            "ablations": [
                {"kind": "component", "pattern": ["mix"]},
                {"kind": "queries", "how": "zero"},
            ],
        }
    )


def test_it_is_recognized_and_evaluated(toy: Path, lights: dict[str, Any]) -> None:
    with open_checkpoint(toy) as checkpoint:
        assert choose(checkpoint).model == "toy"
        adapter = open_adapter(checkpoint)
    dataset = Coco(Path(lights["annotations"]), Path(lights["images"]))
    assert average_precision(ground_truth(dataset), detect_all(adapter, dataset)).overall["AP"] == 1


@pytest.mark.parametrize("framework", [None, "toy", "python"])
def test_it_is_swept(
    toy: Path, lights: dict[str, Any], framework: str | None, tmp_path: Path
) -> None:
    if framework == "python":
        framework = f"python:{tmp_path / 'toy_detectors.py'}:FRAMEWORK"
    with open_sweep(recipe_of(toy, lights, framework)) as opened:
        outcome = run_sweep(opened, ledger_of(opened, tmp_path / "run"))
    found = {one.name: one.evaluation.overall["AP"] for one in outcome.ledger.results()}
    assert found == {"unmodified": 1, "mix": 0, "query0-zero": 0, "query1-zero": 0}


def test_its_files_are_in_the_fingerprint(
    toy: Path, lights: dict[str, Any], tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    found = []
    with open_checkpoint(toy) as checkpoint:
        for text in ("a", "b", "a"):
            notes.write_text(text)
            recipe = recipe_of(toy, lights, f"toy:{notes}")
            found.append(environment_of(recipe, checkpoint, "cpu"))
    assert found[0] == found[2]
    assert {key for key in found[0] if found[0][key] != found[1][key]} == {"configuration"}


def test_so_is_ones_own_code(toy: Path, lights: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("LEVEL = 1\n")
    (tmp_path / "mine.py").write_text(f"from beside import LEVEL\n{TOY}")
    recipe = recipe_of(toy, lights, f"python:{tmp_path / 'mine.py'}:FRAMEWORK")
    with open_checkpoint(toy) as checkpoint:
        before = environment_of(recipe, checkpoint, "cpu")
        (tmp_path / "beside.py").write_text("LEVEL = 2\n")
        after = environment_of(recipe, checkpoint, "cpu")
    assert {key for key in before if before[key] != after[key]} == {"configuration"}


def test_so_is_the_version_of_its_package(
    toy: Path, lights: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        f"{TOY}\nfrom dataclasses import replace\n"
        "FRAMEWORK = replace(FRAMEWORK, packages=('toy-detectors', 'not-there'))\n"
    )
    recipe = recipe_of(toy, lights, f"python:{tmp_path / 'mine.py'}:FRAMEWORK")
    (about,) = tmp_path.glob("*.dist-info/METADATA")

    def run(folder: str) -> Ledger:
        with open_sweep(recipe) as opened:
            return run_sweep(opened, ledger_of(opened, tmp_path / folder)).ledger

    run("run")
    noted = run("other").folder / "inputs.json"
    values = json.loads(noted.read_text())
    del values["library_version"]
    shutil.rmtree(noted.parent)
    before = Ledger(noted.parent, values)  # as an earlier version began it
    about.write_text(about.read_text().replace("Version: 1.0", "Version: 1.1"))
    told = r"another library version \(toy-detectors 1.0, now toy-detectors 1.1\)"
    with pytest.raises(UserError, match=told):
        run("run")
    assert run("other").inputs == before.inputs


def test_what_is_expected_is_said(toy: Path) -> None:
    with open_checkpoint(toy) as checkpoint:
        with pytest.raises(UserError, match=r'unknown model "tox".*toy\[:NOTES\].*mean "toy"'):
            open_adapter(checkpoint, "tox")
        with pytest.raises(UserError, match='unknown model "hybrid:x": nothing follows "hybrid"'):
            open_adapter(checkpoint, "hybrid:x")
        with pytest.raises(UserError, match=r'"broken" of adapters .* \(toy_detectors:GONE\)'):
            open_adapter(checkpoint, "broken")


def test_a_broken_adapter_is_told_where_nothing_else_fits(toy: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    message = r'is of no framework.*; "broken" of adapters is not there'
    with open_checkpoint(tmp_path / "other.pth") as opened, pytest.raises(UserError, match=message):
        open_adapter(opened)


def test_help_says_what_the_frameworks_do() -> None:
    built_in = BUILT_IN
    assert ", ".join(f"{name}{FRAMEWORKS[name].takes}" for name in built_in) == USAGE


def test_those_that_are_built_in_keep_to_the_usual_names() -> None:
    """So that none of them is imported to cut a checkpoint."""
    assert {name for name in BUILT_IN if FRAMEWORKS[name].anatomy is not USUAL} == set()


def test_layouts_and_heads_of_a_frameworks_own() -> None:
    layout = Layout("packed", ("kernel",), ("out.weight",))
    anatomy = Anatomy(layouts=(layout,), heads=lambda prefix, name, config: {"n": config["n"]})
    tensors = {"a.kernel": torch.zeros(12, 4), "a.out.weight": torch.zeros(4, 4)}
    assert attentions(tensors, {"n": 2}) == []
    (found,) = attentions(tensors, {"n": 2}, anatomy=anatomy)
    assert found.remove([1]) == (Edit("a.out.weight", Blocks(1, ((2, 4),))),)


def test_what_libreyolo_has_written_is_recognized(tmp_path: Path) -> None:
    told = {"libreyolo_version": "1.6.0", "model_family": "yolox", "size": "n"}
    torch.save({"model": {"head.weight": torch.zeros(2)}, **told}, tmp_path / "written.pt")
    with open_checkpoint(tmp_path / "written.pt") as checkpoint:
        assert choose(checkpoint).model == "libreyolo"
    torch.save({"model": {"head.weight": torch.zeros(2)}, "size": "n"}, tmp_path / "other.pt")
    with (
        open_checkpoint(tmp_path / "other.pt") as checkpoint,
        pytest.raises(UserError, match=r"libreyolo \(official files of YOLOX"),
    ):
        choose(checkpoint)

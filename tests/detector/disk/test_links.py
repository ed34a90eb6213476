"""A link is as good as what it points to, with what lies beside that."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from ablate_kit.ablations.receipt import receipt_of
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep
from detector.data.formats.yolo import Yolo
from detector.disk.links import beside
from detector.training.recipes.data_sections import FolderImages

RECIPE = """
model: {checkpoint: model.safetensors}
data: {kind: coco, annotations: instances.json, images: images}
ablations: [{kind: modules, pattern: [neck]}]
"""


@pytest.fixture
def real(tmp_path: Path) -> Path:
    folder = tmp_path / "real"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images/a.png")
    (folder / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text("path: .\nval: images\nnames: [thing]\n")
    (folder / "sweep.yaml").write_text(RECIPE)
    for name in ("model.safetensors", "instances.json"):
        (folder / name).touch()
    (tmp_path / "links").mkdir()
    return folder


def link(real: Path, name: str) -> Path:
    path = real.parent / "links" / name
    path.symlink_to(Path("..", real.name, name))
    return path


def test_a_name_is_meant_beside_the_link_first(real: Path) -> None:
    recipe = link(real, "sweep.yaml")
    assert beside(recipe, "model.safetensors") == real / "model.safetensors"
    assert beside(recipe, "none") == recipe.parent / "none"
    (recipe.parent / "model.safetensors").touch()
    assert beside(recipe, "model.safetensors") == recipe.parent / "model.safetensors"


def test_recipes(real: Path) -> None:
    found = load_sweep(link(real, "sweep.yaml"))
    assert found.model.checkpoint == str(real / "model.safetensors")
    assert found.data.model_dump()["images"] == str(real / "images")


def test_data_sets(real: Path) -> None:
    assert len(Yolo(link(real, "data.yaml"), "val").annotations(0)) == 1
    assert len(FolderImages(images=str(link(real, "images"))).dataset()) == 1
    (real / "images/around").symlink_to("..")
    (real.parent / "links/images/more").symlink_to(real.parent / "more")
    (real.parent / "more").mkdir()
    Image.new("RGB", (8, 8)).save(real.parent / "more/b.png")
    # Through a link, and a link in it: a.png and b.png, neither of them twice.
    assert len(FolderImages(images=str(real.parent / "links")).dataset()) == 2


def test_shards(real: Path) -> None:
    for name in "ab":
        safetensors.numpy.save_file({name: np.ones(2, np.float32)}, real / f"{name}.safetensors")
    index = real / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in "ab"}}))
    with open_checkpoint(link(real, index.name)) as checkpoint:
        assert list(checkpoint.tensors) == ["a", "b"]
        assert checkpoint.folder == real


def test_receipts(real: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, real / "cut.pth")
    with open_checkpoint(link(real, "cut.pth")) as checkpoint:
        assert receipt_of(checkpoint) is None
        (real / "cut.pth.ablation.json").write_text("{")
        with pytest.raises(UserError, match=r"real/cut\.pth\.ablation\.json"):
            receipt_of(checkpoint)

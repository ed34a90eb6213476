"""Recipes and weights that are shipped, named from anywhere; files of a recipe from its folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ablate_kit.ablations.kinds.kind import KindContext
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.errors import UserError
from ablate_kit.shipped import RECIPES
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run


def test_what_is_shipped_is_named_from_anywhere(
    run: Run, refuse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("keys", "builtin:shapes_tiny").splitlines()[-1].endswith(str(SHAPES_TINY))
    recipe = load_sweep(Path("builtin:shapes_tiny"))
    with open_checkpoint(Path(recipe.model.checkpoint)) as checkpoint:
        assert checkpoint.path == SHAPES_TINY
        assert len(recipe.make(KindContext(checkpoint))) > 40
    assert 'did you mean "shapes_tiny"' in refuse("keys", "builtin:shapes_tny")
    assert 'no built-in recipe "shapes_tni"; did you mean' in refuse("sweep", "builtin:shapes_tni")
    assert "no built-in recipe" in refuse("train", "builtin:modules_tiny")  # it is one of retrain


def test_the_package_has_the_recipes_of_the_repository(repository: Path) -> None:
    own = {one.relative_to(RECIPES): one.read_bytes() for one in RECIPES.glob("*/*.yaml")}
    there = {
        one.relative_to(repository / "recipes"): one.read_bytes()
        for one in (repository / "recipes").glob("*/*.yaml")
    }
    assert own == there
    assert own


def test_the_recipe_of_detr_fits_a_detr(folders: Callable[[str], Path]) -> None:
    with open_checkpoint(folders("detr")) as checkpoint:
        made = load_sweep(Path("builtin:detr")).make(KindContext(checkpoint))
    kinds = {one.kind for one in made}
    assert kinds == {"heads", "control", "layers", "skip", "component"}
    assert sum(one.kind == "heads" for one in made) == 6 * 4


def test_files_of_a_recipe_are_found_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "here").mkdir()
    path = tmp_path / "study" / "sweep.yaml"
    path.write_text(
        "model: {checkpoint: model.pth, class_names: /names.txt}\n"
        "data: {kind: voc, root: ../VOCdevkit}\n"
        "ablations: [{kind: queries}]\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_sweep(Path("../study/sweep.yaml"), ["data.classes=own.txt"])
    assert recipe.model.checkpoint == "../study/model.pth"
    assert recipe.model.class_names == Path("/names.txt")
    assert recipe.data.model_dump()["root"] == "../study/../VOCdevkit"
    assert recipe.data.model_dump()["classes"] == "own.txt"
    (tmp_path / "here" / "model.pth").touch()
    with pytest.raises(UserError, match=r"sweep.yaml:1:21: no ../study/model.pth.*--set model.ch"):
        load_sweep(Path("../study/sweep.yaml"))


def test_lines_of_a_recipe_are_joined_by_name(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    text = """
model: {checkpoint: builtin:shapes_tiny}
data: {kind: shapes}
ablations:
  - {kind: joined, members: [MEMBER, decoder.layers.0.self_attn-skip], name: both}
  - {kind: heads, pattern: decoder.layers.1.self_attn}
  - {kind: skip, pattern: ["decoder.layers.{0-1}.self_attn"]}
  - {kind: skip, pattern: ["decoder.layers.{0-1}.self_attn"], together: true, name: two}
"""
    path.write_text(text.replace("MEMBER", "decoder.layers.1.self_attn-head2"))
    with open_checkpoint(SHAPES_TINY) as checkpoint:
        made = {one.name: one for one in load_sweep(path).make(KindContext(checkpoint))}
        both, two = made["both"], made["two"]
        one, other = (
            made["decoder.layers.1.self_attn-head2"],
            made["decoder.layers.0.self_attn-skip"],
        )
        assert both.edits == (*one.edits, *other.edits)
        assert {edit.tensor for edit in two.edits} == {
            f"decoder.layers.{layer}.scale1.weight" for layer in (0, 1)
        }
        path.write_text(text.replace("MEMBER", "decoder.layers.1.self_attn-hed2"))
        with pytest.raises(UserError, match=r'no other line makes .*did you mean ".*-head2"'):
            load_sweep(path).make(KindContext(checkpoint))

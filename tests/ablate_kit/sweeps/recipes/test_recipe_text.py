"""A recipe that is written out and read again means the same, from whatever folder."""

from pathlib import Path

import pytest

from ablate_kit.sweeps.recipes.recipe_text import recipe_text
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep

COMMIT = "0123456789012345678901234567890123456789"


@pytest.mark.parametrize(
    "model",
    [
        {"checkpoint": f"hf:someone/detr@{COMMIT}"},
        {"checkpoint": "builtin:shapes_tiny"},
        {"checkpoint": "a.pth", "framework": "torchvision:fasterrcnn_resnet50_fpn"},
        {"checkpoint": "a.pth", "framework": "libreyolo:yolox"},
        {"checkpoint": "a.pth", "framework": "transformers"},
        {"checkpoint": "a.pth", "framework": "mmdet:config.py", "class_names": "names.txt"},
    ],
)
@pytest.mark.parametrize("cluster", ["clusters.csv", r"(\d+)_"])
def test_names_that_are_no_files_stay_and_files_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, str], cluster: str
) -> None:
    for name in ("a.pth", "config.py", "names.txt", "clusters.csv", "boxes.json"):
        (tmp_path / name).touch()
    path, copied = tmp_path / "recipe.yaml", tmp_path / "other/run/recipe.yaml"
    path.write_text(
        f"model: {model}\n"
        "data: {kind: coco, annotations: boxes.json, images: '.'}\n"
        f"ablations: [{{kind: patch, donor: 'hf:someone/detr@{COMMIT}'}}]\n"
        f"evaluation: {{cluster: '{cluster}'}}\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = load_sweep(Path("recipe.yaml"))
    text = recipe_text(recipe)
    copied.parent.mkdir(parents=True)
    copied.write_text(text)
    monkeypatch.chdir(copied.parent)
    assert recipe_text(load_sweep(copied)) == text
    files = {"a.pth", "config.py", "names.txt", "boxes.json", "clusters.csv"}
    for named in (*model.values(), cluster):
        kept = named.rpartition(":")[2]
        assert (str(tmp_path / kept) in text) == (kept in files), text
    assert f"donor: hf:someone/detr@{COMMIT}" in text

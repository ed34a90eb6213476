"""The recipe of a run, on a machine where its files lie elsewhere."""

from pathlib import Path

from tests.ablate_kit.conftest import Run


def test_all_that_is_elsewhere_is_told_at_once(run: Run, refuse: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {checkpoint: /home/a/best.pth}\n"
        "data: {kind: coco, annotations: /home/a/val.json, images: /home/a/val}\n"
        "ablations: [{kind: modules, pattern: [backbone]}]\n"
    )
    told = refuse("sweep", recipe, "-o", tmp_path / "again")
    assert "model.checkpoint: cannot open /home/a/best.pth" in told
    assert told.endswith(
        "; if it is elsewhere here: --set model.checkpoint=PLACE --set data.annotations=PLACE "
        "--set data.images=PLACE\n"
    )
    (tmp_path / "val").mkdir()
    here = ("--set", "model.checkpoint=builtin:shapes_tiny", "--set", f"data.images={tmp_path}/val")
    told = refuse("sweep", recipe, "-o", tmp_path / "again", *here)
    assert told.endswith("no such file or folder: /home/a/val.json; if it is elsewhere here: "
                         "--set data.annotations=PLACE\n")  # fmt: skip

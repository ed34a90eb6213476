"""One rule for what inputs are called, in every command."""

import json
from pathlib import Path

import pytest

from ablate_kit.checkpoints.naming import name_of, names_of
from ablate_kit.errors import UserError


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("decoder.layers.0.self_attn-head0.safetensors", "decoder.layers.0.self_attn-head0"),
        ("decoder.layers.0.self_attn-head0.json.gz", "decoder.layers.0.self_attn-head0"),
        ("results.bbox.json", "results.bbox"),
        ("epoch_12.pth", "epoch_12"),
        ("v1.5", "v1.5"),
        (".json", ".json"),
    ],
)
def test_only_the_suffix_of_a_file_is_left_out(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


def test_names_get_as_many_folders_as_they_need(tmp_path: Path) -> None:
    def named(*files: str) -> list[str]:
        return names_of([tmp_path / file for file in files], "a file")

    assert named("a/run.json", "b/other.json") == ["run", "other"]
    assert named("a/run.json", "b/run.json") == ["a/run", "b/run"]
    assert named("a/x/run.json", "b/x/run.json") == ["a/x/run", "b/x/run"]
    assert named("run.json", "run.npz") == ["run.json", "run.npz"]
    (tmp_path / "v1.5").mkdir()
    (tmp_path / "best").symlink_to(tmp_path / "v1.5")
    assert named("v1.5", "best") == ["v1.5", "best"]
    commit = "c" * 40
    of_hub = [Path(f"hf:a/detr@{commit}"), Path("builtin:shapes_tiny"), tmp_path / "run.json"]
    assert names_of(of_hub, "a file") == [f"detr@{commit[:12]}", "shapes_tiny", "run"]
    with pytest.raises(UserError, match="a file is given twice: "):
        named("run.json", "v1.5/../run.json")
    with pytest.raises(UserError, match=r"^a checkpoint is given twice: builtin:shapes_tiny$"):
        names_of([Path("builtin:shapes_tiny")] * 2, "a checkpoint")


def test_eval_score_and_predict_call_the_same_file_the_same(run, hybrid, tmp_path) -> None:
    import numpy as np
    from PIL import Image

    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [8, 8, 30, 30]}],
        "categories": [{"id": 1, "name": "disc"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    cuts = ["layers.0-head0", "layers.0-head1"]
    for cut in cuts:
        (tmp_path / f"{cut}.safetensors").write_bytes(Path(hybrid).read_bytes())
        (tmp_path / f"{cut}.json").write_text("[]")
    weights = [tmp_path / f"{cut}.safetensors" for cut in cuts]
    against = ("--annotations", tmp_path / "gt.json", "--resamples", "0", "--json")
    scored = run("score", *(tmp_path / f"{c}.json" for c in cuts), *against)
    evaluated = run("eval", *weights, "--images", tmp_path, *against)
    assert all(list(json.loads(one)["variants"]) == cuts for one in (scored, evaluated))
    out = tmp_path / "out"
    run("predict", weights[0], tmp_path / "a.png", "-o", out, "--compare", weights[1])
    assert {path.name for path in out.iterdir()} == {
        "a.png", "images.json", *(f"{cut}.json" for cut in cuts)
    }  # fmt: skip
    # images.json says what the ids mean; a checkpoint of that name must not take its place
    named = tmp_path / "images.safetensors"
    named.write_bytes(weights[0].read_bytes())
    run("predict", named, tmp_path / "a.png", "-o", tmp_path / "again")
    assert "categories" in json.loads((tmp_path / "again" / "images.json").read_text())
    assert (tmp_path / "again" / "baseline.json").exists()

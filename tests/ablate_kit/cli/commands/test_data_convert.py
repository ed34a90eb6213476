"""``ablate data convert`` as a user runs it."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.ablate_kit.conftest import Run


@pytest.fixture
def source(tmp_path: Path) -> tuple[object, ...]:
    """The options that name a COCO data set of two images."""
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"images/{name}.png")
    sides = {"width": 40, "height": 30}
    truth = {
        "images": [{"id": i, "file_name": f"{name}.png", **sides} for i, name in enumerate("ab")],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 8], "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(truth))
    return "--annotations", tmp_path / "coco.json", "--images", tmp_path / "images"


def test_what_is_written_is_read_as_the_command_says(
    run: Run, source: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for to in ("voc", "yolo", "coco"):
        out = run("data", "convert", *source, "--to", to, "-o", tmp_path / to)
        told = out.strip().partition("read it with ")[2].split()
        checked = run("data", "check", *told)
        assert "no problems" in checked
        assert "cat" in checked
    assert (tmp_path / "voc/ImageSets/Main/val.txt").read_text() == "a\nb\n"
    run("data", "convert", "--voc", tmp_path / "voc", "--split", "2007:val", "--to", "yolo",
        "--split-name", "train", "-o", tmp_path / "again")  # fmt: skip
    assert (tmp_path / "again/data.yaml").read_text().startswith("train: images/train\n")


def test_mistakes(refuse: Run, source: tuple[object, ...], tmp_path: Path) -> None:
    to = ("--to", "yolo", "-o")
    assert "unknown" not in refuse("data", "convert", *source, "--to", "pascal", "-o", "x")
    assert "exists" in refuse("data", "convert", *source, *to, tmp_path)
    assert "YOLO has train, val, test" in refuse(
        "data", "convert", *source, *to, tmp_path / "x", "--split-name", "mine")  # fmt: skip
    (tmp_path / "images/b.png").unlink()
    assert "b.png: image file is missing" in refuse(
        "data", "convert", *source, *to, tmp_path / "x")  # fmt: skip
    assert not (tmp_path / "x").exists()
    assert "no annotations to convert" in refuse(
        "data", "convert", "--images", tmp_path / "images", *to, tmp_path / "x")  # fmt: skip


def test_hugging_face_s_are_read_as_the_command_says(
    run: Run, refuse: Run, source: tuple[object, ...], tmp_path: Path
) -> None:
    rows = [
        {"file_name": "a.png", "objects": {"bbox": [[1, 2, 30, 20]], "categories": [1]}},
        {"file_name": "b.png", "objects": {"bbox": [], "categories": []}},
    ]
    described = tmp_path / "images/metadata.jsonl"
    described.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    folder, to = described.parent, tmp_path / "coco"
    assert "give --class-names" in refuse("data", "huggingface", folder, "-o", to)
    assert "ablate data huggingface FOLDER makes" in refuse(
        "data", "check", "--annotations", described, "--images", folder)  # fmt: skip
    assert not to.exists()
    names = ("--class-names", tmp_path / "names.txt")
    out = run("data", "huggingface", folder, *names, "-o", to)
    assert out.startswith("2 images and 1 object written")
    checked = run("data", "check", *out.strip().partition("read it with ")[2].split())
    assert "no problems" in checked
    assert "exists" in refuse("data", "huggingface", folder, *names, "-o", to)
    out = run("data", "huggingface", folder, *names, "-o", tmp_path / "few", "--limit", 1)
    assert out.startswith("1 image and 1 object written")


def test_a_data_set_in_the_hub_s_cache_has_its_name(
    run: Run,
    refuse: Run,
    source: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    asked = ("data", "huggingface", "hf:someone/pets", "-o", tmp_path / "coco")
    assert "fetch it: hf download someone/pets --repo-type dataset" in refuse(*asked)
    place, commit = tmp_path / "cache/datasets--someone--pets", "a" * 40
    (place / "snapshots").mkdir(parents=True)
    shutil.copytree(tmp_path / "images", place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    row = {"file_name": "a.png", "objects": {"bbox": [[1, 2, 30, 20]], "categories": ["cat"]}}
    (place / "snapshots" / commit / "metadata.jsonl").write_text(json.dumps(row))
    assert run(*asked).startswith("1 image and 1 object written")
    assert "is a file of weights" in refuse(
        "data", "huggingface", "hf:a/b/c.pth", "-o", tmp_path / "x"
    )

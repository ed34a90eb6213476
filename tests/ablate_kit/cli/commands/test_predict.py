"""``ablate predict`` and ``ablate dissect`` as a user runs them."""

import json

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from ablate_kit.models.inference.detect import detect
from tests.ablate_kit.small_sweeps import adapter_of


@pytest.fixture
def pictures(coco):
    return sorted(coco[1].glob("*.png"))[:2]


def test_pictures_and_json(run, hybrid, pictures, tmp_path):
    out = tmp_path / "seen"
    printed = run("predict", hybrid, *pictures, "-o", out, "--score", "0")
    assert {path.name for path in out.iterdir()} == {
        *(path.name for path in pictures), "small.json", "images.json",
    }  # fmt: skip
    results = json.loads((out / "small.json").read_text())
    images = json.loads((out / "images.json").read_text())
    assert [one["id"] for one in images["images"]] == [1, 2]
    adapter = adapter_of(hybrid)
    for number, path in enumerate(pictures, start=1):
        with Image.open(path) as image:
            before = np.array(image.convert("RGB"))
        with Image.open(out / path.name) as image:
            after = np.array(image)
        assert before.shape == after.shape
        assert (before != after).any()
        (expected,) = detect(adapter, [before])
        own = [one for one in results if one["image_id"] == number]
        assert [one["score"] for one in own] == pytest.approx(expected.scores[:100])
        assert str(path) in printed


def test_comparison_side_by_side(run, hybrid, pictures, tmp_path):
    variant = tmp_path / "cut.safetensors"
    run("component", hybrid, "encoder", "-o", variant)
    out = tmp_path / "seen"
    run("predict", hybrid, pictures[0], "-o", out, "--compare", variant, "--score", "1")
    results = [json.loads((out / f"{name}.json").read_text()) for name in ("small", "cut")]
    assert results[0] != results[1]
    with Image.open(pictures[0]) as before, Image.open(out / pictures[0].name) as after:
        assert after.width == 2 * before.width + 8
        assert after.height > before.height
        low = after.height - before.height  # no box has a score of 1: the image is as it was
        np.testing.assert_array_equal(
            np.array(after)[low:, : before.width], np.array(before.convert("RGB"))
        )


def test_the_first_images_and_the_built_in_ones(run, refuse, hybrid, pictures, tmp_path):
    run("predict", hybrid, *pictures, "--limit", 1, "-o", tmp_path / "first")
    assert (tmp_path / "first" / pictures[0].name).exists()
    assert not (tmp_path / "first" / pictures[1].name).exists()
    run("predict", hybrid, "--shapes", "--limit", 2, "-o", tmp_path / "shapes")
    images = json.loads((tmp_path / "shapes/images.json").read_text())["images"]
    assert [one["file_name"] for one in images] == [f"shapes-1-1-00000{i}.png" for i in (0, 1)]
    for words in ((), (pictures[0], "--shapes")):
        assert "give images, or --shapes" in refuse("predict", hybrid, *words, "-o", tmp_path / "x")
    out = refuse("predict", hybrid, "--shapes", "--exif", "apply", "-o", tmp_path / "x")
    assert "--exif has no effect on --shapes" in out


def test_folders_stand_for_the_images_below_them(run, refuse, hybrid, pictures, tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for picture, place in zip(pictures, ("a.png", "deep/b.PNG"), strict=True):
        (folder / place).write_bytes(picture.read_bytes())
    run("predict", hybrid, folder, "-o", tmp_path / "below")
    run("predict", hybrid, *pictures, "-o", tmp_path / "given")
    below, given = (tmp_path / name for name in ("below", "given"))
    assert (below / "small.json").read_bytes() == (given / "small.json").read_bytes()
    for picture, name in zip(pictures, ("a.png", "deep_b.png"), strict=True):
        assert (below / name).read_bytes() == (given / picture.name).read_bytes()
    images = json.loads((below / "images.json").read_text())["images"]
    assert [one["file_name"] for one in images] == [f"{folder}/a.png", f"{folder}/deep/b.PNG"]
    (tmp_path / "empty").mkdir()
    told = refuse("predict", hybrid, tmp_path / "empty", "-o", tmp_path / "none")
    assert "no images in it" in told


def test_mistakes(refuse, hybrid, pictures, tmp_path):
    out = tmp_path / "seen"
    assert "image file is missing" in refuse("predict", hybrid, tmp_path / "no.png", "-o", out)
    (tmp_path / "text.png").write_text("hello")
    assert "image does not decode" in refuse("predict", hybrid, tmp_path / "text.png", "-o", out)
    assert "two images are called" in refuse(
        "predict", hybrid, pictures[0], pictures[0], "-o", out)  # fmt: skip
    assert "exists" in refuse("predict", hybrid, pictures[0], "-o", tmp_path)
    assert not out.exists()


def test_dissect_writes_its_names(run, refuse, hybrid, tmp_path):
    out = tmp_path / "cuts"
    run("dissect", hybrid, "units", "queries.content", "--percent", "5", "--repeats", 2, "-o", out)
    before = safetensors.torch.load_file(hybrid)
    for repeat in range(2):
        path = out / f"model_queries.content_single_wise_5_{repeat}.safetensors"
        after = safetensors.torch.load_file(path)
        size = before["queries.content"].numel()
        assert (after["queries.content"] == 0).sum() == size * 5 // 100
        assert all(after[name].equal(before[name]) for name in before if name != "queries.content")
    assert "units needs --percent" in refuse(
        "dissect", hybrid, "units", "queries.content", "-o", out)  # fmt: skip
    assert "component takes no --percent" in refuse(
        "dissect", hybrid, "component", "queries.content", "--percent", "5", "-o", out)  # fmt: skip
    assert "heads needs --layers" in refuse(
        "dissect", hybrid, "heads", "a.{layer}", "--percent", "5", "-o", out)  # fmt: skip
    assert "draws nothing" in refuse(
        "dissect", hybrid, "component", "queries.content", "--repeats", "2", "-o", out)  # fmt: skip

"""``ablate shrink`` from the command line: what it writes, says and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ablate_kit as ak
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.sweeps.run_sweep import run as run_sweep
from detector.disk.sealed import sealed, unsealed
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Ablate, Run
from tests.ablate_kit.small_sweeps import sweep_recipe
from tests.hybrid_file import reweighted

SHIPPED = "builtin:shapes_tiny"


def one_by_one(attention: str) -> list[dict[str, Any]]:
    """The first two of its heads, each to be cut by itself."""
    return [{"kind": "heads-chosen", "pattern": attention, "heads": [head]} for head in (0, 1)]


@pytest.fixture
def without_heads(tmp_path: Path, run: Run) -> Path:
    """A copy without two heads, of whose receipt the smaller model is made."""
    run("heads", SHIPPED, "decoder.layers.0.self_attn", "--heads", "0,3", "-o", tmp_path / "cut")
    (found,) = (tmp_path / "cut").iterdir()
    return found


def test_a_receipt_becomes_a_smaller_file(without_heads: Path, tmp_path: Path, run: Run) -> None:
    smaller = tmp_path / "smaller.safetensors"
    told = run("shrink", SHIPPED, "--drop", without_heads, "-o", smaller, "--shapes", "--limit", 12)
    assert "taken out: heads 0,3 of decoder.layers.0.self_attn (of 4)" in told
    assert "decoder_self_heads: [2, 4, 4]" in told
    assert "on 8 images\n" in told
    assert "parameters" in told
    assert "\nsmaller " in told
    # What it says of itself is true, and it can be made again.
    assert "original  ok " in run("verify", smaller)
    again = tmp_path / "again.safetensors"
    run("apply", SHIPPED, smaller, "-o", again)
    assert again.read_bytes() == smaller.read_bytes()
    assert "48x48 float32 -> 48x24 float32" in run("diff", SHIPPED, smaller, code=1)
    # As one made of the JSON alone is, which is an ablation without a receipt.
    with open_checkpoint(without_heads) as opened:
        receipt = json.loads(opened.archive.metadata["ablate_kit.receipt"])
    plain = tmp_path / "variant.json"
    plain.write_text(json.dumps(receipt["ablation"]))
    other = tmp_path / "other.safetensors"
    found = json.loads(run("shrink", SHIPPED, "--drop", plain, "-o", other, "--json"))
    assert other.read_bytes() == smaller.read_bytes()
    assert found["settings"] == {"decoder_self_heads": [2, 4, 4]}
    assert found["random_images"]
    assert found["cost"][1]["parameters"] == found["cost"][0]["parameters"] - 24 * (3 * 49 + 48)


def test_a_dry_run_writes_nothing(without_heads: Path, tmp_path: Path, run: Run) -> None:
    smaller = tmp_path / "smaller.safetensors"
    told = run("shrink", SHIPPED, "--drop", without_heads, "-o", smaller, "--dry-run")
    assert "taken out: heads 0,3" in told
    assert not smaller.exists()


def test_fewer_layers(tmp_path: Path, run: Run) -> None:
    smaller = tmp_path / "smaller.safetensors"
    told = json.loads(run("shrink", SHIPPED, "--depth", 2, "-o", smaller, "--dry-run", "--json"))
    assert (told["path"], told["settings"]["decoder_layers"]) == (str(smaller), 2)
    told = run("shrink", SHIPPED, "--depth", 2, "-o", smaller, "--dry-run")
    assert "taken out: 1 of 3 decoder layers\ndecoder_layers: 2" in told
    told = run("shrink", SHIPPED, "--depth", 2, "-o", smaller)
    assert "outputs differ from those of the model that is configured so by up to" in told
    assert "original  ok " in run("verify", smaller)


def test_images_that_cannot_be_read_leave_nothing_written(
    without_heads: Path, tmp_path: Path, refuse: Run
) -> None:
    """Behind those whose outputs are compared, too."""
    images, smaller = tmp_path / "images", tmp_path / "smaller.safetensors"
    images.mkdir()
    for number in range(10):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(images / f"{number}.png")
    last = images / "9.png"
    last.write_bytes(last.read_bytes()[:60])
    line = refuse("shrink", SHIPPED, "--drop", without_heads, "-o", smaller, "--images", images)
    assert "9.png: image does not decode" in line
    assert [*tmp_path.glob("smaller*")] == []


def test_what_a_run_found_to_be_free_is_taken_out_at_once(
    tmp_path: Path, run: Run, refuse: Run
) -> None:
    lines = [
        *one_by_one("decoder.layers.0.cross_attn"),
        {"kind": "units", "pattern": "heads.main.class_head.bias", "percent": [12]},
    ]
    folder = tmp_path / "run"
    run_sweep(sweep_recipe(SHIPPED, lines, 12), folder)  # which takes no time for a report
    smaller = tmp_path / "smaller.safetensors"
    # Within so wide a margin everything is free, and a random unit is no part.
    told = run("shrink", SHIPPED, "--from", folder, "--free", "--margin", "0.4", "-o", smaller)
    assert "3 of 3 variants are free within 0.4 AP; 2 can be taken out\n" in told
    assert "drawn at random" in told
    assert "taken out: heads 0-1 of decoder.layers.0.cross_attn (of 4)" in told
    assert "smaller" in told
    assert "original  ok " in run("verify", smaller)
    line = refuse("shrink", smaller, "--from", folder, "--free", "-o", tmp_path / "x.safetensors")
    assert "is a run of another checkpoint than" in line
    words = ("shrink", SHIPPED, "--from", folder, "--free", "--margin", "0.4", "--largest")
    told = run(*words, "-o", tmp_path / "largest.safetensors")
    assert "the largest joint cut that is free: 2 of 2 parts" in told
    assert "judged on 12 other images of the run's data, which it did not see" in told
    assert (tmp_path / "largest.safetensors").stat().st_size == smaller.stat().st_size
    line = refuse(
        *("shrink", SHIPPED, "--from", folder, "--free", "--margin", "0", "-o", tmp_path / "x")
    )
    assert "shows nothing to be free within 0 AP that could be taken out (" in line
    assert "of 3 variants cost" in line


def test_what_hurts_is_taken_out_as_what_is_free(tmp_path: Path, run: Run) -> None:
    hurt, folder = tmp_path / "hurt.safetensors", tmp_path / "run"
    with reweighted(SHAPES_TINY, hurt) as tensors:
        generator = torch.Generator().manual_seed(0)
        name = "decoder.layers.2.self_attn.out_proj.weight"
        tensors[name][:, :12] = 20 * torch.randn(48, 12, generator=generator)
    model = ak.load(hurt)
    ak.sweep(model, ak.shapes(limit=20), model.heads("decoder.layers.2.self_attn"), output=folder)
    told = run("shrink", hurt, "--from", folder, "--free", "-o", tmp_path / "smaller.safetensors")
    assert "3 of 4 variants are free within 0.01 AP (1 of them better left out); 3 can" in told
    assert "taken out. What matters on less than 14% of all images these 20 may not show" in told
    assert "taken out: heads 0,2-3 of decoder.layers.2.self_attn (of 4)" in told
    assert "smaller is better than original by more than 0.01 AP" in told


def test_joint_cuts_are_judged_as_the_run_that_chose_their_parts(
    tmp_path: Path, run: Run, ablate: Ablate
) -> None:
    settings = {"margin": 0.5, "cluster": r"\d(\d)\.png", "max_detections": 11}
    lines = one_by_one("decoder.layers.2.self_attn")
    folder = tmp_path / "run"
    swept = run_sweep(sweep_recipe(SHIPPED, lines, 12, **settings), folder)
    words = ("shrink", SHIPPED, "--from", folder, "--free")
    told = run(*words, "--largest", "-o", tmp_path / "a.safetensors")
    assert told.count("12 images in 10 clusters") == 2  # of joint cuts, and of the smaller model
    assert "judged on" not in told
    assert told.count("on AP at a margin of 0.5") == 2
    unmodified = swept.ledger.results()[0]
    assert f"\noriginal  {unmodified.evaluation.overall['AP']:.4f}" in told
    # What says which images belong together is for the run's own; the margin is for all.
    # Where images are given, nobody looks for the run's.
    manifest = folder / "study.json"
    noted = unsealed(json.loads(manifest.read_text()))
    noted["data"]["limit"] = 11
    manifest.write_text(json.dumps(sealed(noted)))
    done = ablate(*words, "-o", tmp_path / "b.safetensors", "--shapes", "--limit", 14)
    assert "14 images, " in done.out
    assert "on AP at a margin of 0.5" in done.out
    assert "not evaluated" not in done.err
    done = ablate(*words, "-o", tmp_path / "c.safetensors", "--dry-run")
    assert "the joint cut is not evaluated: the annotations have changed" in done.err


def test_joint_cuts_have_the_clusters_that_the_run_had(tmp_path: Path, run: Run) -> None:
    clusters, folder = tmp_path / "clusters.csv", tmp_path / "run"
    images = [f"shapes-1-1-{i:06d}.png" for i in range(12)]
    lines = [f"{name},{i * 10 // 12}\n" for i, name in enumerate(images)]
    clusters.write_text("file,cluster\n" + "".join(lines))
    cut = ("--heads", "decoder.layers.2.self_attn", "--shapes", "--limit", 12, "--margin", "0.5")
    run("sweep", SHIPPED, *cut, "--cluster", clusters, "-o", folder)
    words = ("shrink", SHIPPED, "--from", folder, "--free", "--largest")
    told = run(*words, "-o", tmp_path / "a.safetensors")
    assert told.count("12 images in 10 clusters") == 2
    clusters.unlink()
    assert run(*words, "-o", tmp_path / "b.safetensors") == told.replace("a.safe", "b.safe")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --drop with an ablation, or --from RUN with --free"),
        (["--from", "run"], "give --drop with an ablation, or --from RUN with --free"),
        (["--drop", "CUT", "--free"], "give --drop with an ablation, or --from RUN with --free"),
        (["--drop", "CUT", "--depth", "1"], "or --depth or --queries"),
        (["--depth", "1", "--largest"], "--largest goes with --from RUN --free"),
        (["--depth", "1", "--leave"], "--leave and --with-code go with --drop and --from"),
        (["--depth", "3"], "depth is 3; the detector has 3, expected fewer"),
        (["--drop", "CUT", "--limit", "3"], "options of images go with images"),
        (["--drop", "CUT", "--margin", "0.1"], "--margin goes with --from, or with images"),
        (["--drop", "EMPTY"], "is an empty folder; expected variants"),
        (["--drop", "missing.json"], "missing.json: no such file"),
        (["--drop", "CUT", "-o", "CUT"], "exists; choose another place"),
        (["--drop", "CUT", "-o", "x.pth"], "would be a safetensors file"),
        (["--from", "CUT", "--free"], "is no sweep"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str], message: str, without_heads: Path, tmp_path: Path, refuse: Run
) -> None:
    (tmp_path / "empty").mkdir()
    given = {"CUT": str(without_heads), "EMPTY": str(tmp_path / "empty")}
    words = [given.get(word, word) for word in words]
    if "-o" not in words:
        words += ["-o", str(tmp_path / "x.safetensors")]
    assert message in refuse("shrink", SHIPPED, *words)


def test_what_is_no_ablation_is_refused(tmp_path: Path, refuse: Run) -> None:
    path, output = tmp_path / "cut.json", tmp_path / "x.safetensors"
    for text, message in (
        ("no json", "is not valid JSON"),
        ('{"edits": [1]}', "is not an ablation"),
        ("[]", "is not a receipt"),
        ("{}", "is not a receipt"),
    ):
        path.write_text(text)
        assert message in refuse("shrink", SHIPPED, "--drop", path, "-o", output)


def test_the_difference_of_layers_of_unlike_sizes_is_told_of_each(tmp_path: Path, run: Run) -> None:
    for layer, heads in ((0, "0"), (1, "0,1")):
        part = f"decoder.layers.{layer}.self_attn"
        run("heads", SHIPPED, part, "--heads", heads, "-o", tmp_path / "cut")
    run("shrink", SHIPPED, "--drop", tmp_path / "cut", "-o", tmp_path / "smaller.safetensors")
    told = run("diff", SHIPPED, tmp_path / "smaller.safetensors", code=1)
    assert "layers.0.self_attn.out_proj.weight  48x48 float32 -> 48x36 float32" in told
    assert "layers.1.self_attn.out_proj.weight  48x48 float32 -> 48x24 float32" in told

"""``ablate sweep CHECKPOINT --heads all``: sweeps without a recipe, and the recipe they leave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ablate_kit.plural import duration
from ablate_kit.progress_bars import progress
from ablate_kit.sweeps.shown_progress import watched
from tests.ablate_kit.conftest import Run


def variants(folder: Path) -> list[str]:
    return list(document(folder)["variants"])


def document(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report" / "results.json").read_text())
    return found


def test_heads_and_layers_and_the_recipe_that_repeats_it(
    run: Run, hybrid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hybrid.parent)
    options = ("--shapes", "--limit", "2", "--set", "evaluation.resamples=20")
    cuts = ("--heads", "encoder.layers.*.self_attn", "--layers", "decoder.layers.*.ffn")
    out = run("sweep", hybrid.name, *cuts, *options, "-o", tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    assert f"recipe: {recipe}" in out
    found = variants(tmp_path / "run")
    assert found[1:5] == [f"encoder.layers.0.self_attn-head{head}" for head in range(4)]
    assert [one for one in found if "ffn" in one] == [
        f"decoder.layers.{layers}.ffn" for layers in ("0", "0-1", "0-2")
    ]
    page = (tmp_path / "run" / "report" / "report.html").read_text()
    head = page.partition('<ul class="numbers">')[0]
    assert f"<dd>{hybrid.name}</dd>" in head
    assert "built-in shapes, the first 2 images" in head
    assert "ablate sweep small.safetensors --heads" in head
    assert "torch" in head
    assert "Nothing can be said: the unmodified model finds next to nothing" in head
    monkeypatch.chdir(tmp_path)
    again = run("sweep", recipe, "-o", "again")
    assert "recipe:" not in again
    assert variants(tmp_path / "again") == found
    assert (tmp_path / "again" / "recipe.yaml").read_text() == recipe.read_text()
    one, other = (document(tmp_path / name) for name in ("run", "again"))
    assert one["variants"] == other["variants"]
    assert one["run"]["command"].startswith("ablate sweep small.safetensors --heads")
    assert one["run"]["sources"][0]["sha256"] == other["run"]["sources"][0]["sha256"]


def test_all_modules_are_those_that_run_in_evaluation(
    run: Run, hybrid: Path, tmp_path: Path
) -> None:
    out = run("sweep", hybrid, "--modules", "all", "--shapes", "--limit", "1", "--dry-run")
    names = {line.split()[0] for line in out.splitlines() if line}
    assert names >= {"backbone", "backbone.csi", "neck", "neck.inputs.0", "encoder", "queries",
                     "decoder", "decoder.layers.1", "decoder.layers.1.ffn"}  # fmt: skip
    assert not any("dense_heads" in one or "norm" in one for one in names)  # the first only train


def test_all_heads_and_layers_of_two_families(
    run: Run, hybrid: Path, folders: Callable[[str], Path]
) -> None:
    options = ("--heads", "all", "--layers", "all", "--shapes", "--limit", "1", "--dry-run")
    out = run("sweep", hybrid, *options)
    names = {line.split()[0] for line in out.splitlines() if line}
    assert {one.partition("-head")[0] for one in names if "-head" in one} >= {
        f"decoder.layers.{n}.{part}" for n in range(3) for part in ("self_attn", "cross_attn")
    } | {"encoder.layers.0.self_attn"}
    assert names >= {"decoder.layers.0-2.cross_attn", "decoder.layers.0-1.ffn"}
    out = run("sweep", folders("detr"), *options)
    names = {line.split()[0] for line in out.splitlines() if line}
    assert names >= {"model.encoder.layers.1.self_attn-head3", "model.decoder.layers.0-1.fc2",
                     "model.decoder.layers.1.encoder_attn-head0"}  # fmt: skip


def test_what_does_not_go_together_is_refused(
    refuse: Run, hybrid: Path, tmp_path: Path, folders: Callable[[str], Path]
) -> None:
    recipe = tmp_path / "some.yaml"
    recipe.write_text(yaml.safe_dump({"model": {"checkpoint": "x"}}))
    assert "is a recipe, which says itself" in refuse("sweep", recipe, "--heads", "all", "--shapes")
    assert "what of this checkpoint" in refuse("sweep", hybrid, "--shapes")
    assert "what of this checkpoint" in refuse("sweep", folders("detr"))
    assert "to change a recipe, give --set" in refuse("sweep", recipe, "--limit", "3")
    assert "give one data set" in refuse("sweep", hybrid, "--heads", "all")
    layers = refuse("sweep", hybrid, "--layers", "decoder.layers.0.ffn", "--shapes")
    assert "decoder.layers.*.self_attn" in layers
    assert 'unknown key "evaluation.bach_size"; did you mean "batch_size"' in refuse(
        "sweep", hybrid, "--heads", "all", "--shapes", "--set", "evaluation.bach_size=2"
    )
    assert not (Path("runs") / hybrid.stem).exists()


def test_a_log_gets_a_line_every_so_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("ablate_kit.progress_bars.monotonic", lambda: now[0])
    with watched(range(10)) as told:
        told.begin(1000)
        for count in (100, 200, 200):
            now[0] += 20
            told.advance("one", count)
        assert capsys.readouterr().err == "3 of 10 batches, 30%; 1:10 left\n"
        # The first batch runs the unmodified model and checks: it says nothing of the others.
        told.begin(100)
        now[0] += 35
        told.advance("unmodified", 5)
        assert capsys.readouterr().err == "round 2: 0 of 10 batches, 5%\n"
        told.advance("one", 5)
        now[0] += 30
        told.advance("unmodified", 30)
        assert capsys.readouterr().err == "round 2: 4 of 10 batches, 40%; 1:00 left\n"
        told.score(0, 8)
        for done in (1, 2):
            now[0] += 30
            told.score(done, 8)
        said = "evaluating: 1 of 8, 12%; 3:30 left\nevaluating: 2 of 8, 25%; 3:00 left\n"
        assert capsys.readouterr().err == said
        told.begin(100)
        now[0] += 30
        told.advance("one", 50)
        assert capsys.readouterr().err == "round 3: 5 of 10 batches, 50%; 30 s left\n"
    with watched(range(1)) as told:
        told.begin(4)  # of one batch nothing better is known
        now[0] += 40
        told.advance("one", 1)
        assert capsys.readouterr().err == "0 of 1 batches, 25%; 2:00 left\n"
    with progress() as display:
        # Whatever shows a bar in a terminal does it, and seldom in a run of days.
        bar = display.add_task("a\nb", total=8)
        now[0] += 40
        display.advance(bar, 2)
        assert capsys.readouterr().err == "a\\nb: 2 of 8, 25%; 2:00 left\n"
        now[0] += 36_000
        display.update(bar, advance=1, left=False)
        assert capsys.readouterr().err == "a\\nb: 3 of 8, 38%\n"
        now[0] += 700
        display.advance(bar, 2)
        assert capsys.readouterr().err == ""
    assert [duration(x) for x in (3.4, 62, 3723)] == ["3 s", "1:02", "1:02:03"]


def test_where_weights_cannot_be_cut_that_is_why_there_are_no_heads(
    refuse: Run, tmp_path: Path
) -> None:
    floats = {f"a.{part}_proj.weight": torch.ones(4, 4) for part in ("q", "k", "v", "out")}
    for name, one, words in (
        ("packed", lambda plain: plain.to(torch.int8), "a.q_proj.weight is quantized, in int8"),
        ("sparse", lambda plain: plain.to_sparse(), "is sparse, which cannot be read"),
    ):
        tensors = {key: one(plain) for key, plain in floats.items()} | {"b.weight": torch.ones(2)}
        torch.save(tensors, tmp_path / f"{name}.pth")
        cuts = ("--heads", "all", "--model", "hybrid", "--shapes", "--dry-run")
        assert words in refuse("sweep", tmp_path / f"{name}.pth", *cuts)

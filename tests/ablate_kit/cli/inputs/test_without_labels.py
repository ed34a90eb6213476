"""Images without labels: variants are held against the unmodified model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import ablate_kit as ak
from ablate_kit.metrics.fidelity import MEASURES
from ablate_kit.sweeps.backends.placement import Placement
from ablate_kit.sweeps.finished_runs.images_of_run import images_of
from ablate_kit.sweeps.recipes.sweep_recipe import load_sweep
from ablate_kit.sweeps.run_folder.ledger import Ledger
from ablate_kit.sweeps.run_sweep import SweepRun
from ablate_kit.sweeps.run_sweep import run as run_sweep
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run

IMAGES, SCORE = 6, 0.3


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    shapes = Shapes(IMAGES, seed=1, split=1)
    for index in range(IMAGES):
        place = folder if index < 4 else folder / "more"
        Image.fromarray(shapes.image(index)).save(place / f"{index:03d}.png")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def recipe(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "sweep.yaml"
    path.write_text(
        f"model: {{checkpoint: {SHAPES_TINY}}}\ndata: {{kind: images, images: {photographs}}}\n"
        "ablations:\n  - {kind: component, pattern: [backbone.csi]}\n"
        "  - {kind: heads, pattern: decoder.layers.0.self_attn}\n"
        f"evaluation: {{resamples: 20, score_threshold: {SCORE}, batch_size: 2}}\n"
    )
    return path


def test_a_sweep_is_the_same_by_recipe_and_in_python(
    run: Run, recipe: Path, photographs: Path, tmp_path: Path
) -> None:
    out = run("sweep", recipe, "-o", tmp_path / "run")
    assert f"{IMAGES} images without labels: for their objects stand " in out
    assert "a distance from unmodified, not from the truth" in out
    assert "AP against the unmodified model" in out
    assert "matched IoU" in out
    written = json.loads((tmp_path / "run/report/results.json").read_text())["variants"]
    unmodified = written["unmodified"]["overall"]
    assert [unmodified[key] for key in ("AP", "AP50", "f1_calibrated", "matched_iou")] == [1] * 4
    assert [unmodified[one.key] for one in MEASURES[1:]] == [0, 0, 0]
    cut = written["backbone.csi"]
    assert 0 < cut["overall"]["AP"] < 1
    assert cut["overall"]["matched_iou"] < 1
    assert set(cut["changes"]) >= {"AP", *(one.key for one in MEASURES)}
    page = (tmp_path / "run/report/report.html").read_text()
    assert "so every number is a distance from that model" in page
    assert "example1.jpg" in {one.name for one in (tmp_path / "run/report").iterdir()}
    caption, _ = (tmp_path / "run/report/table.tex").read_text().split("\n", 1)
    assert caption.endswith("No labels: boxes of the unmodified model stand for objects.}")
    csv = (tmp_path / "run/report/changes.csv").read_text()
    assert "backbone.csi,component,0,lost_boxes," in csv

    model = ak.load(SHAPES_TINY)
    cuts = [*model.modules("backbone.csi"), *model.heads("decoder.layers.0.self_attn")]
    found = ak.sweep(
        model, ak.images(photographs), cuts, resamples=20, score_threshold=SCORE, batch_size=2
    )
    assert {one.name: one.evaluation.overall for one in found.results} == {
        name: one["overall"] for name, one in written.items()
    }
    table = found.table()
    assert table.loc["unmodified", "new_boxes"] == 0
    assert table.loc["backbone.csi", "matched_iou_low"] <= table.loc["backbone.csi", "matched_iou"]


def _numbers(outcome: SweepRun) -> dict[str, object]:
    return {one.name: one.evaluation.to_dict() for one in outcome.ledger.results()}


def test_a_run_goes_on_and_processes_give_the_same_numbers(recipe: Path, tmp_path: Path) -> None:
    whole = run_sweep(load_sweep(recipe), tmp_path / "whole")
    one = ["ablations=[{kind: component, pattern: [backbone.csi]}]"]
    run_sweep(load_sweep(recipe, one), tmp_path / "parts")
    parts = run_sweep(load_sweep(recipe), tmp_path / "parts")
    two = run_sweep(load_sweep(recipe), tmp_path / "two", Placement(("cpu", "cpu")))
    assert len(_numbers(whole)) == 6
    assert _numbers(whole) == _numbers(parts) == _numbers(two)
    assert whole.ledger.truth().to_coco() == two.ledger.truth().to_coco()
    assert images_of(whole.ledger).image(0).shape[2] == 3
    (recipe.parent / "other").mkdir()
    Image.new("RGB", (8, 8)).save(recipe.parent / "other/a.png")
    with pytest.raises(ak.UserError, match="is a sweep of other images or annotations"):
        run_sweep(load_sweep(recipe, [f"data.images={recipe.parent}/other"]), tmp_path / "whole")


def test_eval_holds_checkpoints_against_the_first(
    run: Run, refuse: Run, photographs: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "no-csi.safetensors"
    run("component", SHAPES_TINY, "backbone.csi", "-o", copy)
    given = ("--images", photographs, "--score-threshold", SCORE, "--resamples", 20)
    out = run("eval", SHAPES_TINY, copy, *given, "-o", tmp_path / "report")
    assert "images without labels" in out
    assert "worse" not in out  # which nobody can tell
    assert "AP against model; " in out  # its name: it need not be the other one, unmodified
    caption, _ = (tmp_path / "report/table.tex").read_text().split("\n", 1)
    assert "its change against model on" in caption
    assert caption.endswith("No labels: boxes of model stand for objects.}")
    written = json.loads((tmp_path / "report/results.json").read_text())["variants"]
    assert written["model"]["overall"]["AP"] == 1
    assert 0 < written["no-csi"]["overall"]["AP"] < 1
    assert "give another one" in refuse("eval", SHAPES_TINY, "--images", photographs)
    assert "there is nothing to compare variants with" in refuse(
        "eval", SHAPES_TINY, copy, "--images", photographs, "--score-threshold", 1)  # fmt: skip


def test_what_needs_labels_says_so(
    run: Run, refuse: Run, photographs: Path, tmp_path: Path
) -> None:
    assert "names no annotations to check" in refuse("data", "check", "--images", photographs)
    assert "no labels to learn from" in refuse(
        "gradients", SHAPES_TINY, "--images", photographs, "-o", tmp_path / "g")  # fmt: skip
    assert "no images in it" in refuse("eval", SHAPES_TINY, SHAPES_TINY.parent / "../shapes_tiny",
                                       "--images", tmp_path)  # fmt: skip
    with pytest.raises(ak.UserError, match="tell nothing of one model alone"):
        ak.evaluate(ak.load(SHAPES_TINY), ak.images(photographs))
    run("mean", SHAPES_TINY, "decoder.layers.0.self_attn", "--heads", "0", "--images", photographs,
        "--limit", 2, "-o", tmp_path / "mean")  # fmt: skip


def test_studies_and_sweeps_are_told_which_of_its_boxes_count(
    run: Run, photographs: Path, tmp_path: Path
) -> None:
    given = ("--images", photographs, "--limit", "3", "--score-threshold")
    commands = (
        ("study", "builtin:shapes_tiny", "--budget", "6 passes"),
        ("sweep", "builtin:shapes_tiny", "--modules", "backbone.csi"),
    )
    for command in commands:
        folder = tmp_path / command[0]
        run(*command, *given, SCORE, "-o", folder)
        found = Ledger.existing(folder)
        assert found.inputs["score_threshold"] == SCORE
        truth, unmodified = found.truth(), found.results()[0].detections
        assert truth.own_score == SCORE
        assert len(truth.ids) == (unmodified.scores >= SCORE).sum() > 0


def test_a_study_says_why_nothing_of_what_is_free_can_be_taken_out(
    run: Run, photographs: Path, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    options = ("--images", photographs, "--margin", "0.9", "--score-threshold", SCORE)
    rest = ("--budget", "60 passes", "-o", tmp_path / "run")
    said = run("study", folders("rt_detr_v2"), *options, *rest)
    assert " are free" in said
    assert "no smaller model: nothing that" in said
    assert "smaller by" not in said

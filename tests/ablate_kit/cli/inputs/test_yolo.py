"""YOLO data, wherever a command takes images."""

import json
from pathlib import Path

import pytest
from PIL import Image

import ablate_kit as ak
from detector.data.shapes import Shapes
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run

IMAGES = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first shapes that detectors are evaluated on, as YOLO has them."""
    root = tmp_path_factory.mktemp("yolo")
    for folder in ("images/val", "labels/val"):
        (root / folder).mkdir(parents=True)
    shapes = Shapes(IMAGES, seed=1, split=1)
    for index in range(IMAGES):
        found = shapes.annotations(index)
        Image.fromarray(shapes.image(index)).save(root / f"images/val/{index:03d}.png")
        rows = []
        for label, (x1, y1, x2, y2) in zip(found.labels, found.boxes, strict=True):
            center = (x1 + x2) / 2 / found.width, (y1 + y2) / 2 / found.height
            size = (x2 - x1) / found.width, (y2 - y1) / found.height
            rows.append(" ".join(map(repr, map(float, (label, *center, *size)))))
        (root / f"labels/val/{index:03d}.txt").write_text("\n".join(rows))
    names = ", ".join(shapes.classes)
    (root / "data.yaml").write_text(f"path: .\nval: images/val\nnames: [{names}]\n")
    return root / "data.yaml"


def test_eval_gives_the_numbers_of_the_same_images(run: Run, data: Path) -> None:
    given = ("eval", SHAPES_TINY, "--resamples", "0", "--json")
    yolo = json.loads(run(*given, "--yolo", data))["variants"]
    shapes = json.loads(run(*given, "--shapes", "--limit", IMAGES))["variants"]
    (first,), (second,) = yolo.values(), shapes.values()
    assert first["overall"]["AP"] > 0.3
    assert first["overall"] == pytest.approx(second["overall"], abs=1e-5)
    limited = json.loads(run(*given, "--yolo", data, "--split", "val", "--limit", 2))["variants"]
    assert next(iter(limited.values()))["counts"]["images"] == 2


def test_a_sweep_by_recipe_and_in_python(run: Run, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "sweep.yaml"
    recipe.write_text(
        f"model: {{checkpoint: {SHAPES_TINY}}}\ndata: {{kind: yolo, yaml: {data}, limit: 3}}\n"
        "ablations: [{kind: component, pattern: [backbone.csi]}]\n"
        "evaluation: {resamples: 10}\n"
    )
    folder = tmp_path / "run"
    assert "backbone.csi" in run("sweep", recipe, "-o", folder)
    told = json.loads((folder / "study.json").read_text())["data"]
    assert (told["kind"], told["yaml"]) == ("yolo", str(data))
    run("report", folder)  # which finds the photographs again
    model = ak.load(SHAPES_TINY)
    swept = ak.sweep(model, ak.yolo(data, limit=3), model.modules("backbone.csi"), resamples=0)
    by_recipe = json.loads((folder / "report/results.json").read_text())["variants"]
    overall = swept.results[1].evaluation.overall
    assert by_recipe["backbone.csi"]["overall"] == overall


def test_score_reads_yolos_detections_and_labels(run: Run, data: Path, tmp_path: Path) -> None:
    for path in (data.parent / "labels/val").glob("*.txt"):
        rows = [f"{row} 0.9\n" for row in path.read_text().splitlines()]
        (tmp_path / path.name).write_text("".join(rows))
    told = json.loads(run("score", tmp_path, "--yolo", data, "--json"))["variants"]
    (found,) = told.values()
    assert found["overall"]["AP"] == 1
    assert found["overall"]["giou_matched"] == pytest.approx(1, abs=1e-6)


def test_check(run: Run, data: Path) -> None:
    out = run("data", "check", "--yolo", data)
    assert "YOLO val" in out
    assert out.endswith("no problems\n")


def test_mistakes(refuse: Run, data: Path, tmp_path: Path) -> None:
    model = ("eval", SHAPES_TINY)
    assert "--difficult has no effect on --yolo" in refuse(
        *model, "--yolo", data, "--difficult", "keep")  # fmt: skip
    assert 'no split "test" in it; it has val' in refuse(*model, "--yolo", data, "--split", "test")
    assert "--yolo-root goes with --yolo" in refuse(*model, "--shapes", "--yolo-root", tmp_path)
    assert "--split goes with --voc or --yolo" in refuse(*model, "--shapes", "--split", "val")
    assert "give one data set" in refuse(*model, "--shapes", "--yolo", data)
    assert "do not go with --annotations" in refuse(
        "score", tmp_path, "--annotations", data, "--split", "val")  # fmt: skip

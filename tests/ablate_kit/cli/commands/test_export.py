"""export: a sweep's detections as COCO files, which give its numbers when they are read again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ablate_kit as ak
from ablate_kit.metrics.detections import GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from detector.data.formats.coco import Coco
from detector.disk.lines import whole_lines
from detector.disk.sealed import unsealed
from tests.ablate_kit.conftest import Ablate, Run
from tests.ablate_kit.made_up import detections_of

Swept = tuple[Path, ak.SweepResult]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("sweep") / "run"
    model = ak.load("builtin:shapes_tiny")
    cuts = model.modules("backbone.csi")
    return folder, ak.sweep(model, ak.shapes(limit=2), cuts, resamples=20, output=folder)


def test_files_give_the_numbers_of_the_run(tmp_path: Path, swept: Swept, run: Run) -> None:
    out = tmp_path / "coco"
    told = run("export", swept[0], "-o", out)
    assert told == f"written to {out}: annotations.json, 2 files of COCO results\n"
    names = ["annotations.json", "backbone.csi.json", "unmodified.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    annotations = json.loads((out / "annotations.json").read_text())
    files = [one["file_name"] for one in annotations["images"]]
    assert [name[-11:] for name in files] == ["-000000.png", "-000001.png"]
    truth = GroundTruth.from_coco(annotations)
    assert len(truth) > 0
    for one in swept[1].results:
        rows = json.loads((out / f"{one.name}.json").read_text())
        found = evaluate(truth, detections_of(rows, truth))
        for key in ("AP", "AP50", "AR100"):
            assert found.overall[key] == one.evaluation.overall[key]
    # The project's own reader takes them, as pycocotools does.
    assert len(Coco(out / "annotations.json", out)) == 2


def test_variants_are_chosen_by_a_pattern(
    tmp_path: Path, swept: Swept, run: Run, refuse: Run
) -> None:
    out = tmp_path / "coco"
    run("export", swept[0], "--variants", "back*", "-o", out)
    assert sorted(path.name for path in out.iterdir()) == ["annotations.json", "backbone.csi.json"]
    assert "exists; choose another place" in refuse("export", swept[0], "-o", out)
    said = refuse("export", swept[0], "--variants", "backbone.csy", "-o", tmp_path / "other")
    assert 'did you mean "backbone.csi"?' in said
    assert not (tmp_path / "other").exists()
    assert "is no sweep" in refuse("export", tmp_path, "-o", tmp_path / "other")


def test_a_run_of_before_says_that_it_has_no_digests(
    tmp_path: Path, swept: Swept, ablate: Ablate
) -> None:
    old = tmp_path / "old"
    shutil.copytree(swept[0], old)
    lines = [unsealed(json.loads(line)) for line in whole_lines(old / "ledger.jsonl")]
    (old / "ledger.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    for words in (("report", old), ("export", old, "-o", tmp_path / "coco")):
        done = ablate(*words)
        assert done.code == 0
        assert done.err.count("is of an earlier version, which kept no digests") == 1
    assert "digests" not in ablate("export", swept[0], "-o", tmp_path / "new").err


def test_supervision_reads_them(tmp_path: Path, swept: Swept, run: Run) -> None:
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    run("export", swept[0], "-o", tmp_path / "coco")
    images = sv.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "coco/annotations.json"))
    truth = GroundTruth.from_coco(json.loads((tmp_path / "coco/annotations.json").read_text()))
    assert tuple(images.classes) == truth.classes
    for number, path in enumerate(images.image_paths):
        mine = truth.boxes[truth.image == number]
        np.testing.assert_allclose(images.annotations[path].xyxy, mine, atol=1e-4)
    rows = json.loads((tmp_path / "coco/unmodified.json").read_text())
    boxes = np.array([row["bbox"] for row in rows])
    found = detections_of(rows, truth)
    np.testing.assert_allclose(sv.xywh_to_xyxy(boxes), found.boxes, atol=1e-9)

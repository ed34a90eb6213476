"""``ablate gradients``, as a user runs it."""

import csv
import json
import math
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.gradients.monitor import GradientMonitor
from ablate_kit.reports.gradient_reports.gradients_folder import report_of, write_gradients
from ablate_kit.reports.saved_figure import KINDS
from tests.ablate_kit.conftest import Ablate, Run

FILES = {
    "gradient_analysis_report.txt", "gradient_flow_detailed_report.txt", "gradients.json",
    "report.html", "summary.txt", "tensors.csv",
    *(f"{name}.{kind}" for name in ("heat_map", "update_ratios", "verdicts") for kind in KINDS),
}  # fmt: skip
SMALL = (
    "--set", "model.image_size=96", "--set", "model.widths=[16,32,32,32]",
    "--set", "model.d_model=32", "--set", "model.queries=12", "--set", "data.train=6",
)  # fmt: skip


@pytest.mark.usefixtures("drawn")
def test_a_recipe_from_scratch(run: Run, repository: Path, tmp_path: Path) -> None:
    recipe = repository / "recipes/train/shapes_tiny.yaml"
    folder = tmp_path / "out"
    printed = run(
        "gradients", recipe, *SMALL, "--iterations", 3, "--batch-size", 2, "--lr", 1e-3,
        "--threshold", "high=1000", "--compat", "--depth", 1, "-o", folder,
    )  # fmt: skip
    assert {path.name for path in folder.iterdir()} == FILES
    assert printed.startswith((folder / "summary.txt").read_text().rstrip())
    assert "The four box channels of each dense auxiliary head get no loss" in printed
    assert "never_updated                 0" in printed
    # What advice calls harmless is no critical issue.
    critical, harmless = printed.partition("critical issues")[2].split("harmless by construction: ")
    assert "offset_mask" not in critical.partition("advice:")[0]
    assert "backbone.stage1.0.deform.offset_mask.weight" in harmless.partition("advice:")[0]

    values = json.loads((folder / "gradients.json").read_text(), parse_constant=pytest.fail)
    assert values["about"]["learning rate"] == 0.001
    assert (values["steps"], values["about"]["batch size"]) == (3, 2)
    assert values["gradients"] == "before clipping"
    assert values["thresholds"]["high"] == 1000
    assert "high" not in values["verdicts"]
    assert set(values["modules"]) == {
        "backbone", "decoder", "encoder", "heads", "level_embed", "neck", "queries",
    }  # fmt: skip
    assert sum(values["verdicts"].values()) == len(values["tensors"])
    assert values["notebook"]["never_updated"] == 0

    rows = list(csv.DictReader((folder / "tensors.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == [one["name"] for one in values["tensors"]]
    for row, one in zip(rows, values["tensors"], strict=True):
        assert float(row["grad_norm"]) == one["grad_norm"]
        assert row["flags"].split() == one["flags"]

    detailed = (folder / "gradient_flow_detailed_report.txt").read_text()
    assert all(f"\n{row['name']} " in detailed for row in rows)  # the healthy ones, too
    analysis = (folder / "gradient_analysis_report.txt").read_text()
    dead = [row["name"] for row in rows if "dead_rows" in row["flags"]]
    assert f"DEAD_ROWS ({len(dead)})" in analysis
    with Image.open(folder / "heat_map.png") as picture:
        assert picture.size[0] > 500
    page = (folder / "report.html").read_text()
    assert all(row["name"] in page for row in rows)
    assert page.count("<svg") == 3
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert re.search(r"\.card \{.* overflow-wrap: anywhere; \}", page)  # long names, on a phone
    assert "@page all { size: landscape; }" in page  # the table of all, on paper
    assert "1 tensors" not in page


def test_a_checkpoint_goes_on_from_its_weights(run: Run, hybrid: Path, tmp_path: Path) -> None:
    values = json.loads(
        run("gradients", hybrid, "--shapes", "--limit", 4, "--iterations", 2, "--batch-size", 2,
            "--json", "-o", tmp_path / "out")
    )  # fmt: skip
    assert (values["steps"], values["about"]["images"]) == (2, 4)
    assert values["about"]["learning rate"] == 2e-4
    with open_checkpoint(hybrid) as checkpoint:
        for tensor in values["tensors"]:
            stored = checkpoint.read(tensor["name"]).double().norm().item()
            assert tensor["norm_start"] == pytest.approx(stored, rel=1e-5)


def test_a_hugging_face_detector_by_its_own_loss(
    run: Run, folders: Callable[[str], Path], coco: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    annotations, images = coco
    folder = folders("rt_detr_v2")
    values = json.loads(
        run("gradients", folder, "--annotations", annotations, "--images", images,
            "--iterations", 2, "--batch-size", 2, "--json", "-o", tmp_path / "out")
    )  # fmt: skip
    assert values["about"]["model"] == "RTDetrV2ForObjectDetection"
    assert values["steps"] == 2
    assert math.isfinite(float(values["about"]["loss of the last step"]))
    assert values["verdicts"]["healthy"] > 20
    with open_checkpoint(folder) as checkpoint:  # by the file's names, not those of the module
        assert {one["name"] for one in values["tensors"]} <= {*checkpoint.tensors}
    assert {"loss_vfl", "loss_bbox", "loss_giou"} <= set(
        next(iter(values["loss_terms"]["norms"].values()))
    )


def test_an_interrupted_run_leaves_its_report_and_says_so(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ablate: Ablate
) -> None:
    from ablate_kit.models.frameworks.hybrid_detector.hybrid_training import HybridTraining

    losses, out = HybridTraining.losses, tmp_path / "o"

    def interrupted(self: HybridTraining, batch: object, index: int) -> object:
        if index == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, batch, index)

    monkeypatch.setattr(HybridTraining, "losses", interrupted)
    recipe = repository / "recipes/train/shapes_tiny.yaml"
    stopped = ablate("gradients", recipe, *SMALL, "--iterations", 9, "--batch-size", 2, "-o", out)
    assert stopped.code == 143
    assert stopped.err == f"ablate: stopped by SIGTERM; {out} tells of the first 3 steps\n"
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "gradients.json").read_text())["steps"] == 3


def test_a_report_that_another_run_wrote_meanwhile_stays(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ablate: Ablate
) -> None:
    from ablate_kit.models.frameworks.hybrid_detector.hybrid_training import HybridTraining

    losses, out = HybridTraining.losses, tmp_path / "o"

    def beside(self: HybridTraining, batch: object, index: int) -> object:
        out.mkdir(exist_ok=True)
        (out / "summary.txt").write_text("another's")
        return losses(self, batch, index)

    monkeypatch.setattr(HybridTraining, "losses", beside)
    recipe = repository / "recipes/train/shapes_tiny.yaml"
    told = ablate(
        "gradients", recipe, *SMALL, "--iterations", 2, "--batch-size", 2, "-o", out
    ).refusal()
    assert f"{out} exists; choose another place" in told
    assert [one.name for one in out.iterdir()] == ["summary.txt"]


def test_mistakes(
    refuse: Run, repository: Path, hybrid: Path, coco: tuple[Path, Path], tmp_path: Path
) -> None:
    recipe = repository / "recipes/train/shapes_tiny.yaml"
    out = tmp_path / "out"
    for arguments, message in (
        ((recipe, "--threshold", "vanish=1"), 'unknown threshold "vanish"; did you mean "vanish'),
        ((recipe, "--threshold", "low"), 'cannot read --threshold "low"; expected NAME=NUMBER'),
        ((recipe, "--threshold", "low=x"), 'threshold low is "x"; expected a number from 0 on'),
        ((recipe, "--threshold", "high_share=2"), "expected a share from 0 to 1"),
        ((recipe, "--threshold", "low=100"), "must not decrease"),
        ((recipe, "--lr", "0"), "--lr is 0; expected a number above 0"),
        ((recipe, "--model", "hybrid"), "go with a checkpoint"),
        ((recipe, "--limit", "3"), "--limit goes with a data set"),
        ((hybrid,), "names no data: give --annotations"),
        ((hybrid, "--shapes", "--set", "a=b"), "--set changes a recipe"),
        ((recipe, "--device", "gpu"), 'cannot use the device "gpu"'),
    ):
        assert message in refuse("gradients", *arguments, "-o", out)
        assert not out.exists()
    others = tmp_path / "others.json"
    others.write_text(coco[0].read_text().replace('"disc"', '"disk"'))
    data = ("--annotations", others, "--images", coco[1])
    assert (
        "the checkpoint has 8 classes (disc, square, triangle, ...), the data 8 classes (disk,"
    ) in refuse("gradients", hybrid, *data, "-o", out)
    out.mkdir()
    assert "exists; choose another place" in refuse("gradients", recipe, "-o", out)


def test_the_report_of_anybodys_loop(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientMonitor(model, optimizer) as monitor:
        write_gradients(tmp_path / "none", report_of(monitor))  # before anything was seen
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()
        write_gradients(tmp_path / "some", report_of(monitor, {"model": "<b>a model</b>"}))
    assert "No optimizer step was measured" in (tmp_path / "none/summary.txt").read_text()
    page = (tmp_path / "some/report.html").read_text()
    assert "&lt;b&gt;a model&lt;/b&gt;" in page
    assert "<b>a model</b>" not in page
    assert {path.name for path in (tmp_path / "some").iterdir()} == FILES

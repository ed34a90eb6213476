"""``ablate knobs``, from the command line to its folder."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate_kit.reports.results_schema import ResultsFile
from tests.ablate_kit.conftest import Ablate, Run

Folders = Callable[[str], Path]
SHIPPED = "builtin:shapes_tiny"


@pytest.mark.usefixtures("drawn")
def test_a_run_is_a_table_a_page_and_files_as_of_other_commands(
    run: Run, tmp_path: Path, hybrid: Path
) -> None:
    folder = tmp_path / "run"
    printed = run(
        "knobs", hybrid, "--depth", "--queries", "12,6", "--size", "64", "--shapes", "--limit", 2,
        "--rounds", 1, "--resamples", 100, "-o", folder,
    )  # fmt: skip
    alone = run("eval", hybrid, "--shapes", "--limit", 2, "--json")
    results = ResultsFile.model_validate_json((folder / "results.json").read_text())
    names = ["small", "depth 1", "depth 2", "queries 6", "size 64"]
    assert list(results.variants) == names
    assert results.variants["small"].overall == json.loads(alone)["variants"]["small"]["overall"]
    assert results.variants["queries 6"].factors == {"knob": "queries", "setting": 6}
    costs = json.loads((folder / "costs.json").read_text())
    assert list(costs) == names
    whole, early = costs["small"], costs["depth 1"]
    assert early["parameters"] < whole["parameters"]
    assert early["flops"] < whole["flops"]
    assert costs["size 64"]["size"] == [64, 64]
    assert [one["batch"] for one in whole["passes"] if one["device"] == "cpu"] == [1, 8]
    assert early["passes"][0]["rounds"] == 1
    with (folder / "knobs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows] == names
    for row in rows:
        assert row["AP"] == f"{results.variants[row['setting']].overall['AP']:.4f}"
    changes = (folder / "changes.csv").read_text()
    assert changes.splitlines()[1].startswith("depth 1,knob,")
    page = (folder / "report.html").read_text()
    assert "Settings of small on 2 images" in page
    assert "<svg" in page
    assert (folder / "knobs.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "knobs.pdf").read_bytes().startswith(b"%PDF")
    for text in (*names, "verdict", "ratio cpu 8", "Pareto"):
        assert text in printed


def test_images_without_labels_and_no_clock(
    run: Run, tmp_path: Path, folders: Folders, hybrid: Path
) -> None:
    from PIL import Image

    for i in range(2):
        Image.new("RGB", (64, 48), (40 * i, 90, 120)).save(tmp_path / f"{i}.png")
    printed = run(
        "knobs", hybrid, "--queries", 4, "--images", tmp_path, "--rounds", 0, "--resamples", 0,
        "--score-threshold", 0, "--json",
    )  # fmt: skip
    told = json.loads(printed)
    assert told["costs"]["queries 4"]["passes"] == []
    assert told["results"]["variants"]["small"]["overall"]["AP"] == 1.0
    assert told["results"]["variants"]["queries 4"]["overall"]["AP"] < 1.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shapes"], "which knob is to be turned? Give --depth"),
        (["--depth"], "give one data set"),
        (["--queries", "20,x", "--shapes"], 'cannot read --queries "20,x"; expected numbers'),
        (["--size", "0", "--shapes"], 'cannot read --size "0"'),
        (["--queries", "61", "--shapes"], "queries 61: the detector has 60; give fewer"),
        (["--queries", "60", "--shapes"], "nothing to try: the detector has queries 60 as it is"),
        (["--size", "100", "--shapes"], "image_size is 100; expected a multiple of 32"),
        (["--depth", "--shapes", "--device", "abacus"], 'cannot use the device "abacus"'),
    ],
)
def test_what_cannot_be_done_is_refused(
    refuse: Run, tmp_path: Path, options: list[str], said: str
) -> None:
    assert said in refuse("knobs", SHIPPED, *options, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_framework_without_knobs_is_refused(refuse: Run, tmp_path: Path) -> None:
    code = tmp_path / "own.py"
    code.write_text("def build(): ...\n")
    model = f"python:{code}:build"
    assert "no knobs are known" in refuse("knobs", SHIPPED, "--depth", "--shapes", "--model", model)


def test_a_size_that_a_model_does_not_run_on_is_refused_before_the_rest_is_run(
    folders: Folders, tmp_path: Path, ablate: Ablate
) -> None:
    words = ("knobs", folders("rt_detr_v2"), "--size", 100, "--shapes", "--limit", 1)
    printed = ablate(*words, "-o", tmp_path / "run")
    assert printed.code == 2
    *_, said = printed.err.splitlines()  # after a note on the classes
    assert "does not run on images of 100x100 pixels" in said
    assert not (tmp_path / "run").exists()

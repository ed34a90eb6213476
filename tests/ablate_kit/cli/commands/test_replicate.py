"""The cuts of a run in other checkpoints."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ablate_kit.sweeps.run_folder.ledger import Ledger
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run
from tests.hybrid_file import reweighted

CUTS = ("--heads", "decoder.layers.0.self_attn", "--modules", "backbone.csi")
DATA = ("--shapes", "--limit", 4)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first") / "run"


@pytest.fixture
def first(run: Run, kept: Path, tmp_path: Path) -> Path:
    """A run, made once; each test has a copy of its own."""
    if not kept.exists():
        run("sweep", SHAPES_TINY, *CUTS, *DATA, "-o", kept)
    return shutil.copytree(kept, tmp_path / "first")


def test_other_checkpoints_are_cut_as_the_first_and_compared(
    run: Run, refuse: Run, first: Path, seeds: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "first-replicated"
    printed = run("replicate", first, *seeds)
    assert "in all 3 checkpoints" in printed
    assert "adjusted for 5 cuts" in printed
    assert printed.count("5 cuts on 4 images") == 2
    assert json.loads((out / "replication.json").read_text())["run"] == str(first)

    # The runs are those of ablate sweep, and the rows those of the runs.
    alone = tmp_path / "alone"
    run("sweep", seeds[1], *CUTS, *DATA, "-o", alone)
    ledgers = [Ledger.existing(one) for one in (first, out / "seed1", alone)]
    with (out / "report/cuts.csv").open() as file:
        rows = {(row["cut"], row["metric"]): row for row in csv.DictReader(file)}
    results = [{one.name: one for one in ledger.results()} for ledger in ledgers]
    assert len(rows) == 4 * 5
    for (cut, metric), row in rows.items():
        numbers = [
            (one[cut].evaluation.overall[metric], one["unmodified"].evaluation.overall[metric])
            for one in results
        ]
        changes = [after - before for after, before in numbers if after is not None]
        assert float(row["mean"]) == pytest.approx(np.mean(changes))
        assert float(row["deviation"]) == pytest.approx(np.std(changes, ddof=1))
        if row["low"]:  # or all images show the same
            assert float(row["low"]) <= np.mean(changes) <= float(row["high"])
    with (out / "report/changes.csv").open() as file:
        assert {row["checkpoint"] for row in csv.DictReader(file)} == {"model", "seed1", "seed2"}
    page = (out / "report/report.html").read_text()
    assert "The same cuts in 3 checkpoints" in page
    assert '<table class="judged">' in page  # on narrow screens the last column stays in sight
    assert "decoder.layers.0.self_attn-head0" in page
    latex = (out / "report/table.tex").read_text()
    assert latex.startswith(r"% \caption{")
    assert ". In each checkpoint the change" in latex
    for name in ("sentences.md", "table.tex", "table.md", "table.csv", "replication.png"):
        assert (out / "report" / name).stat().st_size

    # Finished runs in place of checkpoints say the same, and nothing is run again.
    again = run("replicate", first, out / "seed1", alone, "-o", tmp_path / "again")
    assert "cuts on" not in again
    assert (tmp_path / "again/report/cuts.csv").read_bytes() == (
        out / "report/cuts.csv"
    ).read_bytes()
    wide = run("replicate", first, *seeds, "--margin", "0.3", "--top", 1)
    assert "margin of 0.3" in wide
    assert "the 1 of 5 that cost most" in wide

    # What cannot be held against each other is refused.
    same = refuse("replicate", first, first / ".." / "first", "-o", tmp_path / "x")
    assert "given twice" in same
    copied = shutil.copytree(first, tmp_path / "copied")
    assert "same weights" in refuse("replicate", first, copied, "-o", tmp_path / "x")
    fewer = tmp_path / "fewer"
    run("sweep", seeds[0], *CUTS, "--shapes", "--limit", 3, "-o", fewer)
    assert "other images or annotations" in refuse("replicate", first, fewer, "-o", tmp_path / "x")
    others = tmp_path / "others"
    run("sweep", seeds[0], "--modules", "neck.keep", *DATA, "-o", others)
    assert "share no cut" in refuse("replicate", first, others, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert "no sweep" in refuse("replicate", tmp_path, seeds[0])
    for option in (("--weights", "ema"), ("--device", "cuda")):
        told = refuse("replicate", first, others, *option, "-o", tmp_path / "x")
        assert "options of the model and --device have no effect on runs" in told
    assert "holds something else" in refuse("replicate", first, alone, "-o", out / "seed1")


def test_checkpoints_of_one_name_keep_their_runs_as_others_are_given(
    run: Run, first: Path, seeds: list[Path], tmp_path: Path
) -> None:
    """As checkpoint-500 of every seed's Trainer: names tell them apart by those given beside."""
    both = [tmp_path / name / "last.safetensors" for name in ("one", "two")]
    for path, seed in zip(both, seeds, strict=True):
        path.parent.mkdir()
        path.write_bytes(seed.read_bytes())
    out = tmp_path / "first-replicated"
    run("replicate", first, both[0])
    printed = run("replicate", first, both[1])
    assert "one-last" not in printed
    assert sorted(one.name for one in out.iterdir() if one.is_dir()) == [
        "last",
        "report",
        "two-last",
    ]
    ran = [(out / name / "ledger.jsonl").stat().st_mtime_ns for name in ("last", "two-last")]
    run("replicate", first, *both)
    assert sorted(one.name for one in out.iterdir() if one.is_dir()) == [
        "last",
        "report",
        "two-last",
    ]
    assert ran == [
        (out / name / "ledger.jsonl").stat().st_mtime_ns for name in ("last", "two-last")
    ]


def test_a_search_that_chose_other_parts_elsewhere_is_said(run: Run, tmp_path: Path) -> None:
    """The other checkpoint computes the same with heads and units the other way round."""
    module, ffn = "decoder.layers.0.self_attn", "decoder.layers.0.ffn"
    with reweighted(SHAPES_TINY, tmp_path / "turned.safetensors") as tensors:
        for name in ("in_proj_weight", "in_proj_bias"):
            heads = tensors[f"{module}.{name}"].unflatten(0, (3, 4, -1))
            tensors[f"{module}.{name}"] = heads.flip(1).flatten(0, 2).contiguous()
        heads = tensors[f"{module}.out_proj.weight"].unflatten(1, (4, -1))
        tensors[f"{module}.out_proj.weight"] = heads.flip(1).flatten(1).contiguous()
        for name in ("fc1.weight", "fc1.bias"):  # a gate and what it lets through
            halves = tensors[f"{ffn}.{name}"].unflatten(0, (2, -1))
            tensors[f"{ffn}.{name}"] = halves.flip(1).flatten(0, 1).contiguous()
        tensors[f"{ffn}.fc2.weight"] = tensors[f"{ffn}.fc2.weight"].flip(1).contiguous()
    recipe = tmp_path / "greedy.yaml"
    recipe.write_text(
        f"model: {{checkpoint: {SHAPES_TINY}}}\ndata: {{kind: shapes, limit: 2}}\n"
        f"ablations: [{{kind: heads-greedy, pattern: {module}, steps: 2}},\n"
        f"  {{kind: hidden-units, pattern: {ffn}.*, percent: [2, 100]}}]\n"
    )
    run("sweep", recipe, "-o", tmp_path / "first")
    printed = run("replicate", tmp_path / "first", tmp_path / "turned.safetensors")
    # The second step has chosen the same two heads in both, in another order.
    told = "1 cut is of other parts in each checkpoint, chosen there by {}, such as {}"
    assert printed.startswith("2 cuts and 7 cuts chosen on the way on 2 images")
    page = (tmp_path / "first-replicated/report/report.html").read_text()
    assert told.format("what they cost", f"{module}-greedy-1of4-r0") in page
    assert told.format("their weights", f"{ffn}.all-smallest2pct") in page


def test_what_cannot_be_compared_is_refused_before_hours_of_sweeps(
    run: Run, refuse: Run, first: Path, seeds: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(SHAPES_TINY.read_bytes())
    said = refuse("replicate", first, copy, "-o", out)
    assert said.endswith(f"{first} and {copy} are of the same weights\n")
    assert "cuts on" not in said
    assert not out.exists()

    for others in ([seeds[0], copy], [copy, seeds[0]]):  # whatever comes before
        assert "are of the same weights" in refuse("replicate", first, *others, "-o", out)
    twin = tmp_path / "twin.safetensors"
    twin.write_bytes(seeds[0].read_bytes())
    said = refuse("replicate", first, seeds[0], twin, "-o", out)
    assert said.endswith(f"{seeds[0]} and {twin} are of the same weights\n")
    assert not out.exists()

    fewer = tmp_path / "fewer"
    run("sweep", seeds[1], *CUTS, "--shapes", "--limit", 3, "-o", fewer)
    assert "other images or annotations" in refuse("replicate", first, seeds[0], fewer, "-o", out)
    assert not out.exists()

    # A recipe that was edited, and images that have changed since the first run.
    recipe = first / "recipe.yaml"
    kept = recipe.read_text()
    recipe.write_text(re.sub("decoder.layers.0.self_attn|backbone.csi", "encoder", kept))
    assert f"{first} and {seeds[0]} share no cut" in refuse("replicate", first, seeds[0], "-o", out)
    recipe.write_text(kept)
    recipe.write_text(recipe.read_text().replace("limit: 4", "limit: 3"))
    said = refuse("replicate", first, seeds[0], "-o", out)
    assert f"{first} and {seeds[0]} are of other images or annotations" in said
    assert not out.exists()

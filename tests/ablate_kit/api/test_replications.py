"""``ak.replicate``: the cuts of a run in other checkpoints."""

from pathlib import Path

import numpy as np
import pytest

import ablate_kit as ak
from ablate_kit.sweeps.run import Progress
from detector.zoo import SHAPES_TINY
from tests.ablate_kit.conftest import Run

CUTS = ("--modules", "backbone.csi", "--modules", "decoder.layers.1")


def test_models_are_cut_as_the_first_run_was(run: Run, seeds: list[Path], tmp_path: Path) -> None:
    first = tmp_path / "first"
    run("sweep", SHAPES_TINY, *CUTS, "--shapes", "--limit", 4, "-o", first)
    passes: list[int] = []
    models = [ak.load(one) for one in seeds]
    found = ak.replicate(first, models, margin=0.02, progress=_counting(passes))
    assert found.checkpoints == ["model", "seed1", "seed2"]
    assert len(passes) == 2
    table = found.table()
    assert list(table.index) == found.cuts == ["backbone.csi", "decoder.layers.1"]
    assert np.allclose(table[found.checkpoints].mean(axis=1), table["mean"])
    assert (table["low"] <= table["mean"]).all()
    assert "in all 3 checkpoints" in found.sentences[0]
    assert "0.02 AP" in found.sentences[0]
    assert found.folder == tmp_path / "first-replicated"
    assert "The same cuts in 3 checkpoints" in found.report().read_text()
    with pytest.raises(ak.UserError, match='no metric "ap"; there are AP,'):
        found.table("ap")

    # The command says the same, and finds all runs done.
    out = tmp_path / "again"
    printed = run("replicate", first, *(found.folder / one.stem for one in seeds), "-o", out)
    assert "cuts on" not in printed
    theirs = (out / "report/cuts.csv").read_bytes()
    again = ak.replicate(first, models, progress=_counting(passes))
    assert passes[2:] == [0, 0]
    assert (again.folder / "report/cuts.csv").read_bytes() == theirs


def test_sweeps_of_own_cuts_are_compared(seeds: list[Path], tmp_path: Path) -> None:
    data = ak.shapes(limit=3)
    runs = []
    for path in seeds:
        model = ak.load(path)
        cuts = model.modules("backbone.csi")
        runs.append(ak.sweep(model, data, cuts, output=tmp_path / path.stem / "run"))
    found = ak.replicate(runs[0], runs[1:], output=tmp_path / "both")
    assert found.checkpoints == ["seed1", "seed2"]
    assert np.isnan(found.table()["low"]).all()
    with pytest.raises(ak.UserError, match=r"has no recipe\.yaml"):
        ak.replicate(runs[0], [ak.load(seeds[1])], output=tmp_path / "x")
    memory = ak.sweep(model, data, cuts, resamples=0)
    for run, others, words in (
        (memory, runs, "without output keeps nothing"),
        (runs[0], [], "nothing to compare the run with"),
        (runs[0], [seeds[1]], r"is no run; give a checkpoint as a model: ak.load\("),
        (runs[0], [runs[0]], "given twice"),
    ):
        with pytest.raises(ak.UserError, match=words):
            ak.replicate(run, others, output=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def _counting(passes: list[int]) -> Progress:
    return Progress(begin=passes.append)

"""``ablate study``: within its budget, resumable, repeatable by its recipe, careful in words."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

import ablate_kit as ak
from ablate_kit.errors import UserError
from ablate_kit.studies.budget import Budget, parse_budget
from ablate_kit.studies.noted import Noted, noted
from ablate_kit.sweeps.run_folder.stored_detections import UnfinishedBatches
from tests.ablate_kit.conftest import Run


def numbers(folder: Path) -> dict[str, dict[str, float]]:
    found = json.loads((folder / "report" / "results.json").read_text())["variants"]
    return {name: one["overall"] for name, one in found.items()}


def test_budgets() -> None:
    assert parse_budget("60s") == Budget(seconds=60)
    assert parse_budget("10m") == Budget(seconds=600)
    assert parse_budget("1.5h") == Budget(seconds=5400)
    assert parse_budget("500 passes") == Budget(passes=500)
    assert [str(parse_budget(x)) for x in ("600s", "90s", "2h", "500passes")] == [
        "10m", "90s", "2h", "500 image passes"
    ]  # fmt: skip
    for wrong in ("", "10", "-5m", "ten minutes", "5 d"):
        with pytest.raises(UserError, match="expected 60s, 10m, 2h or 500 passes"):
            parse_budget(wrong)
    with pytest.raises(UserError, match='a budget of "0s" is none'):
        parse_budget("0s")


def test_a_study_of_the_shipped_detector(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--shapes", "--limit", "3")
    arguments = ("study", "builtin:shapes_tiny", *data, "--budget", "40 passes")
    plan = run(*arguments, "--dry-run")
    assert "118 cuts on" in plan
    assert re.search(r"top-level parts +7 +0 ", plan)
    assert re.search(r"head 3 +head +mean", plan)
    folder = tmp_path / "run"
    add, count = UnfinishedBatches.add, [0]

    def stopped(self: UnfinishedBatches, *rest: object) -> None:
        count[0] += 1
        if count[0] > 1:
            raise KeyboardInterrupt
        add(self, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(UnfinishedBatches, "add", stopped)
        run(*arguments, "-o", folder, code=130)
    out = run(*arguments, "-o", folder)
    study = noted(folder)
    assert study is not None
    assert study.rounds[0] == [
        "backbone", "neck", "level_embed", "encoder-skip", "queries", "decoder-skip", "heads"
    ]  # fmt: skip
    cut = {name for group in study.rounds for name in group}
    assert study.images * (1 + len(cut)) <= 40
    assert {one.state for one in study.parts} >= {"cut", "not afforded"}
    found = numbers(folder)
    assert set(found) == cut | {"unmodified"}
    assert "* Unmodified, the detector has an AP of" in out
    assert "did not reach" in out
    *_, short, where = out.splitlines()
    assert short.startswith("In short: of ")
    assert where == f"report: {folder / 'report' / 'report.html'}"
    page = (folder / "report" / "report.html").read_text()
    assert page.index("Unmodified, the detector") < page.index('class="map"') < page.index("<svg")
    assert page.count('class="part ') > 9
    assert "<code>ablate sweep recipe.yaml -o again</code>" in page
    # Rows are called what the sentences call them, on the page and in the table for a paper.
    latex = (folder / "report" / "table.tex").read_text()
    assert '<td title="encoder (removed)">' in page
    assert "\nencoder (removed) & " in latex
    assert latex.startswith(
        r"% \caption{AP and its change against the unmodified model on the same"
    )
    assert r"; 95 \% intervals are of each change alone, over images. $^*$: p" in latex
    assert r"level\_embed (set to zero)" in latex
    tables = [(folder / "report" / f"table.{kind}").read_text() for kind in ("md", "csv")]
    assert not [text for text in (latex, *tables) if "encoder (removed)" not in text]
    assert not [text for text in (latex, *tables) if "encoder-skip" in text]
    header, *rows = csv.reader((folder / "report" / "changes.csv").read_text().splitlines())
    called = {row[0]: row[header.index("called")] for row in rows}
    assert called["encoder-skip"] == "encoder (removed)"
    run("sweep", folder / "recipe.yaml", "-o", tmp_path / "again")
    assert numbers(tmp_path / "again") == found
    # Another sweep in the folder of a study is reported as one, and the study is there still.
    cut = ("--set", "ablations=[{kind: modules, pattern: [encoder.layers.0.ffn]}]")
    assert "0 of 1 variants cost" in run("sweep", folder / "recipe.yaml", *cut, "-o", folder)
    assert "Nothing was cut" not in (folder / "report" / "report.html").read_text()
    assert not (folder / "report" / "sentences.md").exists()
    assert run(*arguments, "-o", folder).splitlines()[-2:] == [short, where]


@pytest.mark.parametrize(
    "command",
    [
        "study builtin:shapes_tiny --limit 12 --budget '270 passes'",
        "sweep builtin:shapes_tiny --heads decoder.layers.2.self_attn --set data.limit=12",
    ],
)
def test_a_run_ends_in_the_command_that_makes_the_model_smaller(
    command: str, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    out = run(*shlex.split(command), "--shapes", "--margin", "0.5", "-o", folder)
    told = re.search(r"^smaller by up to (.*)% \((\d+) free cuts? .*\): ablate (.*)$", out, re.M)
    assert told
    share, count, command = told.groups()
    words = shlex.split(command)
    words.remove("--largest")
    words[words.index("-o") + 1] = str(tmp_path / "smaller.safetensors")
    said = run(*words)
    assert f"; {count} can be taken out" in said
    left = re.search(r"^parameters .* ([\d.]+)$", said, re.M)
    assert left
    assert abs(1 - float(left[1]) - float(share) / 100) < 0.002


def test_a_run_is_a_study_where_it_is_about_its_first_rounds() -> None:
    study = Noted(budget="9s", images=1, total=1, margin=0.01, parts=[], rounds=[["a", "b"], ["c"]])
    for names in ([], ["b", "a"], ["a", "b", "c"]):  # stopped before the first, or after one
        assert study.is_about(names)
    for names in (["a"], ["a", "c"], ["a", "b", "c", "d"], ["d"]):
        assert not study.is_about(names)


def test_of_random_weights_nothing_is_said(run: Run, hybrid: Path, tmp_path: Path) -> None:
    out = run("study", hybrid, "--shapes", "--limit", "3", "--budget", "2h", "-o", tmp_path / "run")
    assert not [line for line in out.splitlines() if line.startswith("* ")]
    assert out.count("Nothing can be said of this model's parts") == 1
    assert "smaller by" not in out
    assert set(numbers(tmp_path / "run")) == {"unmodified"}


def test_a_larger_budget_goes_on_in_the_same_folder(run: Run, refuse: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    options = ("study", "builtin:shapes_tiny", "--shapes", "--limit", "4", "-o", folder)
    run(*options, "--budget", "16 passes")
    before, first = numbers(folder), noted(folder)
    out = run(*options, "--budget", "32 passes")
    after, second = numbers(folder), noted(folder)
    assert first is not None
    assert second is not None
    assert "on these 2 images; in a new folder this budget would take 4" in out
    assert f"the same again: ablate sweep '{folder}/recipe.yaml'\n" in out
    assert len(before) < len(after) <= 16
    assert before == {name: after[name] for name in before}
    assert second.rounds[: len(first.rounds)] == first.rounds
    assert second.budget == "32 image passes"
    told = refuse(*options, "--budget", "16 passes")
    assert "is a study with a budget of 32 image passes; give that or more" in told
    assert "give that or more" in refuse(*options, "--budget", "5m")
    assert "give --margin 0.01" in refuse(*options, "--budget", "40 passes", "--margin", "0.02")
    refused = refuse(*options, "--budget", "40 passes", "--limit", "1")
    assert "is a sweep of other images or annotations" in refused


def test_images_of_a_cluster_count_together(run: Run, refuse: Run, tmp_path: Path) -> None:
    """Two images in one cluster tell nothing of chance; each by itself they do."""
    options = ("study", "builtin:shapes_tiny", "--shapes", "--limit", "2", "--budget", "16 passes")
    tested = []
    for name, cluster in (("alone", r"(\d+)\.png"), ("together", r"(shapes)-")):
        run(*options, "--cluster", cluster, "--max-detections", 50, "-o", tmp_path / name)
        results = json.loads((tmp_path / name / "report" / "results.json").read_text())
        neck = results["variants"]["neck"]
        tested.append((neck["counts"]["clusters"], neck["changes"]["AP"]["low"] is not None))
        assert "max_detections: 50" in (tmp_path / name / "recipe.yaml").read_text()
    assert tested == [(2, True), (1, False)]
    assert "of other clusters" in refuse(*options, "-o", tmp_path / "together")


def test_a_folder_that_holds_something_else_is_refused_before_anything_is_planned(
    run: Run, refuse: Run, hybrid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablate_kit.studies import study_run

    monkeypatch.setattr(study_run, "outline", lambda *_: pytest.fail("planned"))
    options = ("study", hybrid, "--shapes", "--limit", "2", "-o")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    for name in ("file", "folder"):
        assert "exists and is no sweep or study" in refuse(*options, tmp_path / name)
    assert [one.name for one in (tmp_path / "folder").iterdir()] == ["mine.txt"]
    sweep = tmp_path / "sweep"
    run("sweep", hybrid, "--heads", "decoder.layers.0.self_attn", "--shapes", "--limit", "1",
        "-o", sweep)  # fmt: skip
    assert "is a sweep and no study" in refuse(*options, sweep)


def test_from_python(hybrid: Path, tmp_path: Path) -> None:
    found = ak.study(
        ak.load(hybrid), ak.shapes(limit=2), budget="30 passes", output=tmp_path / "run"
    )
    assert [one.name for one in found.results] == ["unmodified"]
    assert found.sentences[0].startswith("Nothing can be said of this model's parts")
    assert found.report() == tmp_path / "run" / "report" / "report.html"
    with pytest.raises(ak.UserError, match="expected 60s"):
        ak.study(ak.load(hybrid), ak.shapes(limit=2), budget="soon", output=tmp_path / "other")

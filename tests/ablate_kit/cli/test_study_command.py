"""``ablate study``: within its budget, resumable, repeatable by its recipe, careful in words."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import ablate_kit as ak
from ablate_kit.errors import UserError
from ablate_kit.studies.budget import Budget, parse_budget
from ablate_kit.studies.noted import noted
from ablate_kit.sweeps.stored_detections import UnfinishedBatches

Run = Callable[..., str]


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
    assert "114 cuts on" in plan
    assert re.search(r"top-level parts +6 +0 ", plan)
    assert re.search(r"head 3 +head +mean", plan)
    folder = tmp_path / "run"
    add, count = UnfinishedBatches.add, [0]

    def stopped(self: UnfinishedBatches, *rest: object) -> None:
        count[0] += 1
        if count[0] > 1:
            raise KeyboardInterrupt
        add(self, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(UnfinishedBatches, "add", stopped)
        run(*arguments, "-o", folder, code=130)
    out = run(*arguments, "-o", folder)
    study = noted(folder)
    assert study is not None
    assert study.rounds[0] == [
        "backbone", "neck", "encoder-skip", "queries", "decoder-skip", "heads"
    ]  # fmt: skip
    cut = {name for group in study.rounds for name in group}
    assert study.images * (1 + len(cut)) <= 40
    assert {one.state for one in study.parts} >= {"cut", "not afforded"}
    found = numbers(folder)
    assert set(found) == cut | {"unmodified"}
    assert "* Unmodified, the detector has an AP of" in out
    assert "did not reach" in out
    page = (folder / "report" / "report.html").read_text()
    assert page.index("Unmodified, the detector") < page.index('class="map"') < page.index("<svg")
    assert page.count('class="part ') > 9
    run("sweep", folder / "recipe.yaml", "-o", tmp_path / "again")
    assert numbers(tmp_path / "again") == found


def test_of_random_weights_nothing_is_said(run: Run, hybrid: Path, tmp_path: Path) -> None:
    out = run("study", hybrid, "--shapes", "--limit", "3", "--budget", "2h", "-o", tmp_path / "run")
    said = [line for line in out.splitlines() if line.startswith("* ")]
    assert len(said) == 1
    assert said[0].startswith("* Nothing can be said of this model's parts")
    assert set(numbers(tmp_path / "run")) == {"unmodified"}


def test_another_budget_is_another_study(
    run: Run, refuse_any: Run, hybrid: Path, tmp_path: Path
) -> None:
    options = ("study", hybrid, "--shapes", "--limit", "2", "-o", tmp_path / "run")
    run(*options, "--budget", "50 passes")
    assert "is a study with a budget of 50 image passes" in refuse_any(*options, "--budget", "5m")


def test_from_python(hybrid: Path, tmp_path: Path) -> None:
    found = ak.study(
        ak.load(hybrid), ak.shapes(limit=2), budget="30 passes", output=tmp_path / "run"
    )
    assert [one.name for one in found.results] == ["unmodified"]
    assert found.sentences[0].startswith("Nothing can be said of this model's parts")
    assert found.report() == tmp_path / "run" / "report" / "report.html"
    with pytest.raises(ak.UserError, match="expected 60s"):
        ak.study(ak.load(hybrid), ak.shapes(limit=2), budget="soon", output=tmp_path / "other")

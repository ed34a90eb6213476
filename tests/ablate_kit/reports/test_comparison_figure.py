"""The figure of eval, score and demo shows how sure each change is."""

import re
from pathlib import Path

import pytest

from ablate_kit.errors import UserError
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Change
from ablate_kit.reports.comparison_figure import comparison_figure, most_changed
from tests.ablate_kit.made_up import result_of


def result(name: str, value: float) -> Result:
    return result_of(name, "heads", value)


def texts(path: Path) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", path.read_text())


def test_the_figure_shows_intervals_where_there_are_any(tmp_path: Path) -> None:
    results = [result("unmodified", 0.5), result("a", 0.4), result("b", 0.45)]
    known = Change(0.4, -0.1, -0.15, -0.05, 0.02, 0.01, 0.01, 0.02)
    unknown = Change(0.45, -0.05, None, None, None, None, None, None)
    changes = [dict.fromkeys(KEYS, one) for one in (known, unknown)]
    comparison_figure(results, tmp_path / "without.svg")
    comparison_figure(results, tmp_path / "with.svg", changes)
    told = "95 % interval of the change"
    assert told in texts(tmp_path / "with.svg")
    assert told not in texts(tmp_path / "without.svg")
    lines = [
        (tmp_path / name).read_text().count("stroke-width: 2;")
        for name in ("without.svg", "with.svg")
    ]
    assert lines[1] - lines[0] == 3  # one for each panel, of the change that has an interval
    with pytest.raises(UserError, match="expected a name ending in"):
        comparison_figure(results, tmp_path / "figure.bmp")


def test_the_same_figure_is_the_same_bytes(tmp_path: Path) -> None:
    results = [result("unmodified", 0.5), result("a", 0.4)]
    for kind in ("svg", "png", "pdf"):
        first, second = (tmp_path / f"{name}.{kind}" for name in "ab")
        comparison_figure(results, first)
        comparison_figure(results, second)
        assert first.read_bytes() == second.read_bytes(), kind
        assert b"Date" not in first.read_bytes()


def test_of_very_many_those_that_change_most_are_drawn(tmp_path: Path) -> None:
    values = [0.5, *(0.5 - 0.001 * i for i in range(70))]
    results = [result(f"number {i}", value) for i, value in enumerate(values)]
    assert most_changed(results, 2) == [0, 69, 70]
    known = dict.fromkeys(KEYS, Change(0.4, -0.1, -0.15, -0.05, 0.02, 0.01, 0.01, 0.02))
    comparison_figure(results, tmp_path / "many.svg", [known] * 70)
    told = texts(tmp_path / "many.svg")
    assert "95 % interval of the change; the 60 of 70 whose AP changes most" in told
    assert "number 11" in told
    assert "number 10" not in told

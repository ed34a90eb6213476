"""The figure of eval, score and demo shows how sure each change is."""

import re
from collections.abc import Sequence

from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.significance import Change, Changes
from ablate_kit.reports.comparison_figure import comparison_figure, most_changed
from ablate_kit.reports.saved_figure import drawn
from tests.ablate_kit.made_up import result_of


def result(name: str, value: float) -> Result:
    return result_of(name, "heads", value)


def svg(results: Sequence[Result], changes: Sequence[Changes] = ()) -> str:
    return drawn(comparison_figure(results, changes))["svg"].decode()


def texts(picture: str) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", picture)


def test_the_figure_shows_intervals_where_there_are_any() -> None:
    results = [result("unmodified", 0.5), result("a", 0.4), result("b", 0.45)]
    known = Change(0.4, -0.1, -0.15, -0.05, 0.02, 0.01, 0.01, 0.02)
    unknown = Change(0.45, -0.05, None, None, None, None, None, None)
    changes = [dict.fromkeys(KEYS, one) for one in (known, unknown)]
    without, with_ = svg(results), svg(results, changes)
    told = "95 % interval of each change, by itself"
    assert told in texts(with_)
    assert told not in texts(without)
    # one for each panel, of the change that has an interval
    assert with_.count("stroke-width: 2;") - without.count("stroke-width: 2;") == 3


def test_the_same_figure_is_the_same_bytes() -> None:
    results = [result("unmodified", 0.5), result("a", 0.4)]
    first, second = (drawn(comparison_figure(results)) for _ in range(2))
    assert first == second
    assert not any(b"Date" in file for file in first.values())


def test_of_very_many_those_that_change_most_are_drawn() -> None:
    values = [0.5, *(0.5 - 0.001 * i for i in range(70))]
    results = [result(f"number {i}", value) for i, value in enumerate(values)]
    assert most_changed(results, 2) == [0, 69, 70]
    known = dict.fromkeys(KEYS, Change(0.4, -0.1, -0.15, -0.05, 0.02, 0.01, 0.01, 0.02))
    told = texts(svg(results, [known] * 70))
    assert "95 % interval of each change, by itself; the 60 of 70 whose AP changes most" in told
    assert "number 11" in told
    assert "number 10" not in told

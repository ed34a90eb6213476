"""Of very many checkpoints, the curves that can be told apart are drawn."""

from pathlib import Path

import pytest

from ablate_kit.reports import error_analysis
from tests.ablate_kit.made_up import result_of, truth_of


def test_those_whose_ap_changes_most_have_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = truth_of([0], [0, 0, 10, 10], [0], classes=("disc",))

    drawn: list[tuple[list[str], str]] = []
    monkeypatch.setattr(
        error_analysis, "curves_figure",
        lambda found, threshold, note: drawn.append((list(found), note)),
    )  # fmt: skip
    monkeypatch.setattr(error_analysis, "save_figure", lambda figure, place: None)

    for name, count in (("few", 8), ("many", 12)):
        (tmp_path / name).mkdir()
        results = [result_of(str(i), value=0.5 - 0.01 * i) for i in range(count)]
        error_analysis.write_details(tmp_path / name, truth, results)
    assert drawn == [
        ([*"01234567"], ""),
        (["0", "5", "6", "7", "8", "9", "10", "11"], "0 and the 7 of 11 whose AP changes most"),
    ]

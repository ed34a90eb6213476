"""Of very many checkpoints, the curves that can be told apart are drawn."""

from pathlib import Path

import numpy as np
import pytest

from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import Evaluation, Thresholds
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.result import Result
from ablate_kit.reports import error_analysis


def test_those_whose_ap_changes_most_have_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = GroundTruth(
        image_ids=np.arange(1), widths=np.full(1, 640), heights=np.full(1, 480),
        image=np.zeros(1, dtype=int), boxes=np.array([[0.0, 0.0, 10.0, 10.0]]),
        labels=np.zeros(1, dtype=int), ignore=np.zeros(1, dtype=bool), areas=np.full(1, 100.0),
        ids=np.zeros(1, dtype=int), classes=("disc",), category_ids=(0,),
    )  # fmt: skip

    def nothing() -> Detections:
        return Detections.concatenate([])

    drawn: list[tuple[list[str], str]] = []
    monkeypatch.setattr(
        error_analysis, "curves_figure",
        lambda found, threshold, path, note: drawn.append((list(found), note)),
    )  # fmt: skip

    def results(count: int) -> list[Result]:
        found = []
        for i in range(count):
            numbers = dict.fromkeys(KEYS, 0.5 - 0.01 * i)
            evaluation = Evaluation(numbers, {}, Thresholds(0.5, 0.5, False), {})
            found.append(Result(str(i), "heads", evaluation, str(i), nothing))
        return found

    for name, count in (("few", 8), ("many", 12)):
        (tmp_path / name).mkdir()
        error_analysis.write_details(tmp_path / name, truth, results(count))
    assert drawn == [
        ([*"01234567"], ""),
        (["0", "5", "6", "7", "8", "9", "10", "11"], "0 and the 7 of 11 whose AP changes most"),
    ]

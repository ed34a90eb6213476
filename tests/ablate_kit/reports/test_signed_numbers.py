"""A change that rounds to nothing has no minus before its zeros, in tables, sentences and cells."""

import re
from pathlib import Path

import numpy as np

from ablate_kit.reports.sweep_reports.sweep_figures import heat_map
from ablate_kit.reports.table import number


def test_numbers_of_tables() -> None:
    assert number(-1e-9, "+z.4f") == "+0.0000"
    assert number(-1e-9) == "0.0000"
    assert number(-0.0001) == "-0.0001"
    assert number(None) == "-"


def test_cells_of_a_heat_map() -> None:
    figure = heat_map(
        np.array([[-1e-6, -0.0104]]),
        np.zeros((1, 2), bool),
        ["a"],
        ["0", "1"],
        "head",
        numbers=True,
    )
    assert [one.get_text() for one in figure.axes[0].texts] == ["+0.0", "-1.0"]


def test_every_signed_number_is_written_so(repository: Path) -> None:
    for package in ("ablate_kit", "detector"):
        for path in (repository / package).rglob("*.py"):
            found = re.findall(r"[:\"]\+\.\d[f%].*", path.read_text())
            assert found == [], f"{path}: give +z.4f, which has no negative zero"

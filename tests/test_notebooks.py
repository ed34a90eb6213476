"""The notebooks run from their first cell to their last, and were kept with what they printed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = ("compare_two_checkpoints", "study_a_model")
# The figures of a report, which other tests look at, take most of a notebook's time.
WITHOUT_FIGURES = """
from ablate_kit.reports.sweep_reports import sweep_report
for name in ("figures", "_pictures_of_boxes", "_photographs"):
    assert hasattr(sweep_report, name)
    setattr(sweep_report, name, lambda *_, **__: [])
"""


def cells(repository: Path, name: str) -> list[dict[str, Any]]:
    document = json.loads((repository / f"docs/notebooks/{name}.ipynb").read_text())
    return [cell for cell in document["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebooks_run(repository: Path, tmp_path: Path) -> None:
    found = [cell["source"] for name in NOTEBOOKS for cell in cells(repository, name)]
    code = "\n".join([WITHOUT_FIGURES, *map("".join, found)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_notebooks_are_kept_with_their_outputs(repository: Path) -> None:
    folder = repository / "docs/notebooks"
    assert sorted(path.stem for path in folder.iterdir()) == sorted(NOTEBOOKS)
    for name in NOTEBOOKS:
        kept = cells(repository, name)
        assert [cell["execution_count"] for cell in kept] == list(range(1, len(kept) + 1))
        for cell in kept:
            assert cell["outputs"]
            assert all(one["output_type"] != "error" for one in cell["outputs"])

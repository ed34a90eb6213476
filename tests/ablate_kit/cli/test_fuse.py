"""``ablate sweep --fuse``: fewer passes, the same numbers to four decimals, and said so."""

import csv
import json
from pathlib import Path

import yaml

from tests.ablate_kit.conftest import Run


def numbers(folder: Path) -> dict[str, str]:
    """AP of each variant, as the table has it: to four decimals."""
    with (folder / "report" / "table.csv").open() as file:
        return {row["variant"]: row["AP"] for row in csv.DictReader(file)}


def test_a_sweep_side_by_side_says_so_and_is_another_run(
    run: Run, refuse: Run, repository: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "small.yaml"
    values = {
        "model": {"checkpoint": str(repository / "detector/zoo/shapes_tiny/model.safetensors")},
        "data": {"kind": "shapes", "limit": 4},
        "ablations": [{"kind": "heads", "pattern": "decoder.layers.2.self_attn"}],
        "evaluation": {"batch_size": 2, "resamples": 20},
    }
    recipe.write_text(yaml.safe_dump(values))
    fused, plain = tmp_path / "fused", tmp_path / "plain"
    run("sweep", recipe, "-o", fused, "--fuse")
    run("sweep", recipe, "-o", plain)
    notes = json.loads((fused / "notes.json").read_text())
    assert any("ran side by side" in note for note in notes)
    assert json.loads((fused / "inputs.json").read_text())["fuse"] is True
    assert "fuse" not in json.loads((plain / "inputs.json").read_text())
    assert "of another fuse" in refuse("sweep", recipe, "-o", fused)
    assert "leave --no-replay out" in refuse("sweep", recipe, "-o", plain, "--fuse", "--no-replay")
    assert len(numbers(fused)) == 5
    assert numbers(fused) == numbers(plain)

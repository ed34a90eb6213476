"""A process that is killed while it writes leaves the old file, the new one, or none."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TRIALS = 34  # of each of three ways to write


def test_killed_at_a_hundred_random_points(tmp_path: Path) -> None:
    base, work = tmp_path / "base", tmp_path / "work"
    base.mkdir()
    work.mkdir()
    generator = np.random.default_rng(1)
    tensors = {f"w{i}": generator.random((400, 500), np.float32) for i in range(5)}
    save_file(tensors, base / "model.safetensors")
    (base / "config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed.py"), base, work, str(TRIALS)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    new, overwritten, folder = found["new"], found["overwrite"], found["folder"]
    assert "broken" not in {**new, **overwritten, **folder}
    assert set(overwritten) <= {"old", "new"}
    # The points were on both sides of the end, or nothing was tested.
    assert new["absent"] > 0
    assert overwritten["old"] > 0
    assert folder["absent"] > 0
    assert new.get("new", 0) + overwritten.get("new", 0) + folder.get("new", 0) > 0
    # A copy never comes without its receipt.
    assert new.get("receipt", 0) == new.get("new", 0)

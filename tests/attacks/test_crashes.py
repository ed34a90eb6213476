"""A process that is killed while it writes leaves the old file, the new one, or none."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def test_killed_before_calls_that_write(tmp_path: Path) -> None:
    base, work = tmp_path / "base", tmp_path / "work"
    base.mkdir()
    work.mkdir()
    generator = np.random.default_rng(1)
    tensors = {f"w{i}": generator.random((400, 500), np.float32) for i in range(5)}
    save_file(tensors, base / "model.safetensors")
    (base / "config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed.py"), base, work],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    new, overwritten, folder = found["new"], found["overwrite"], found["folder"]
    assert min(new["absent"], overwritten["old"], folder["absent"]) > 0
    # Only who was not killed before the last call that renames has put the file in its place.
    assert new == {"absent": new["absent"], "new": 2, "receipt": 2}  # never without its receipt
    assert overwritten == {"old": overwritten["old"], "new": 1}
    assert folder == {"absent": folder["absent"], "new": 1}

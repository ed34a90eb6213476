"""Hostile files are refused or shown inert, in bounded time and memory."""

import json
import subprocess
import sys
from pathlib import Path

from safetensors.numpy import save_file

from tests.attacks import files

HERE = Path(__file__).parent
SECONDS = 5.0


def outcomes(folder: Path) -> dict[str, tuple[str, str, float]]:
    """For every attack what was expected of it, what became of it, and in what time."""
    import numpy as np

    harmless = folder.with_name("harmless.safetensors")
    save_file({"a": np.ones((3, 2), np.float32)}, harmless)
    expected = files.written(folder)
    done = subprocess.run(
        [sys.executable, HERE / "watched.py", folder, harmless],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == set(expected)
    return {name: (words, *found[name]) for name, words in expected.items()}


def test_all_are_refused_or_shown_in_little_time(tmp_path: Path) -> None:
    (tmp_path / "attacks").mkdir()
    found = outcomes(tmp_path / "attacks")
    assert len(found) > 60
    wrong = {name: outcome for name, (words, outcome, _) in found.items() if words not in outcome}
    assert wrong == {}
    slow = {name: seconds for name, (_, _, seconds) in found.items() if seconds > SECONDS}
    assert slow == {}
    for name, (_, outcome, _) in found.items():
        assert "\n" not in outcome, name
        assert len(outcome) < 600, name
    assert f"'x': os.system('{files.MARK}')" in found["call_os_system"][1]
    assert "'x': subprocess.Popen(" in found["call_new_with_keywords"][1]
    assert "\x1b" not in found["call_terminal_codes"][1]
    assert not Path("ablate_attack_ran").exists()


def test_names_from_a_file_cannot_reach_the_terminal(tmp_path: Path) -> None:
    import numpy as np

    path = tmp_path / "a.safetensors"
    save_file({"a\x1b[31mred\x07": np.ones(2, np.float32), "b\x9b2J": np.ones(1, np.float32)}, path)
    for command in (["keys"], ["keys", "--format", "tree"], ["keys", "--format", "json"], ["meta"]):
        done = subprocess.run(
            [sys.executable, "-m", "ablate_kit", command[0], str(path), *command[1:]],
            capture_output=True, check=True,
        )  # fmt: skip
        text = done.stdout.decode()
        assert all(c.isprintable() or c == "\n" for c in text)
        assert command[0] == "meta" or "red" in text
    missing = subprocess.run(
        [sys.executable, "-m", "ablate_kit", "keys", str(path), "\x1b[2J"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert missing.returncode == 2
    assert b"\x1b" not in missing.stderr

"""The Makefile takes any Python that is supported, and says in one line where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKE = shutil.which("make")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with a Python 3.14 and a python3 that is too old."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in (("python3", "exit 1"), ("python3.14", f'exec "{sys.executable}" "$@"')):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    return folder


def make(repository: Path, path: Path, *given: str) -> subprocess.CompletedProcess[str]:
    if MAKE is None:
        pytest.skip("make is not installed")
    environment = {name: text for name, text in os.environ.items() if name != "PYTHON"}
    venv = path.parent / "venv"
    return subprocess.run(
        [MAKE, "-C", repository, f"VENV={venv}", "demo", *given],
        env=environment | {"PATH": str(path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_first_python_that_is_supported_is_taken(repository: Path, path: Path) -> None:
    done = make(repository, path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "\npython3.14 -m venv " in done.stdout


def test_that_of_the_environment_is_kept(repository: Path, path: Path) -> None:
    kept = path.parent / "venv/bin/python"
    kept.parent.mkdir(parents=True)
    shutil.copy(path / "python3.14", kept)
    assert f"\n{kept} -m venv " in make(repository, path, "--dry-run").stdout


@pytest.mark.parametrize(
    ("given", "named"),
    [((), "none of python3 python3.14 python3.13 python3.12 python3.11 is a"),
     (("PYTHON=python3",), "python3 is no")],
)  # fmt: skip
def test_what_is_missing_is_told(
    repository: Path, path: Path, given: tuple[str, ...], named: str
) -> None:
    (path / "python3.14").unlink()
    done = make(repository, path, *given)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        f"make: {named} Python 3.11 to 3.14 with venv (Debian, Ubuntu: apt install python3-venv); "
        "give one as PYTHON=..."
    )
    assert not (path.parent / "venv").exists()

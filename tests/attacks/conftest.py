"""Running commands on hostile inputs."""

import io
import sys
from collections.abc import Callable

import pytest

from ablate_kit.cli.app import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs ``ablate``; returns its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["ablate", *map(str, arguments)])
            out, err = io.StringIO(), io.StringIO()
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as stop:
                main()
        return int(stop.value.code or 0), out.getvalue(), err.getvalue()

    return run

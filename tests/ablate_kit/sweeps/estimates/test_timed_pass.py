"""What replay cannot save is told where it decides."""

from pathlib import Path

import pytest

from ablate_kit.sweeps.estimates.timed_pass import PassTime
from tests.ablate_kit.conftest import Run


def test_decoding_is_a_larger_share_of_a_shorter_pass() -> None:
    time = PassTime(forward=0.3, decoding=0.1)
    assert time.share_of_decoding(1.0) == pytest.approx(0.25)
    assert time.share_of_decoding(0.1) == pytest.approx(0.1 / 0.13)


@pytest.mark.parametrize("slow", [True, False])
def test_a_decoding_that_takes_most_of_the_time_is_told(
    shown: tuple[Path, Path], run: Run, slow: bool
) -> None:
    code, weights = shown
    if slow:
        text = code.read_text().replace("    found = []", "    time.sleep(0.5)\n    found = []")
    else:
        text = code.read_text().replace(
            "        return self.head", "        time.sleep(0.5)\n        return self.head"
        )
    code.write_text(f"import time\n{text}")
    asked = (weights, "--model", f"python:{code}:build", "--shapes", "--limit", "2", "--dry-run")
    for printed, what in (
        (run("sweep", *asked, "--modules", "head"), "a variant's"),
        (run("study", *asked, "--budget", "20 passes"), "a cut's"),
    ):
        assert (f"% of {what} time; replay saves none of it" in printed) == slow

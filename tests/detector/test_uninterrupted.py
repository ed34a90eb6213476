"""A process that is started without Ctrl-C is without it from its first moment."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, signal, sys
from detector.uninterrupted import uninterrupted

def tell():
    print(signal.Signals.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=tell)
    with uninterrupted():
        process.start()
    process.join()
    tell()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_first_process_of_a_program_hears_no_ctrl_c(method: str, tmp_path: Path) -> None:
    # The first is what differs: starting it makes Python start a process of its own.
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, method], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "False"]

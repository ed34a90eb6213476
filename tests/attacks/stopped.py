"""Runs ``ablate`` and has a signal arrive just before the n-th call of one of its functions.

    stopped.py SIGKILL 2 ablate_kit.models.inference.batches:prepared_batches sweep recipe.yaml

A signal at a counted call is the same on every machine, however busy; one at a time is not.
"""

import functools
import importlib
import os
import signal
import subprocess
import sys
from typing import Any

from ablate_kit.cli.app import main


def stopped(
    number: str, count: int, where: str, *words: object
) -> "subprocess.CompletedProcess[str]":
    """The same in a process of its own, with as many threads as this one has."""
    import torch

    return subprocess.run(
        [sys.executable, __file__, number, str(count), where, *map(str, words)],
        capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip


def arm(number: signal.Signals, count: int, where: str) -> None:
    """The ``count``-th call of ``module:name`` first sends this process the signal."""
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    call, calls = getattr(owner, name), 0

    @functools.wraps(call)
    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), number)
        return call(*arguments, **named)

    setattr(owner, name, counted)


if __name__ == "__main__":
    # As in a terminal: whatever started the tests may ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arm(signal.Signals[sys.argv[1]], int(sys.argv[2]), sys.argv[3])
    sys.argv = ["ablate", *sys.argv[4:]]
    main()

"""A sweep in two processes, each of which runs out of memory at its first shard; run by itself.

Spawned processes import this file anew, so that the change below is made in them, too.
"""

import sys
from typing import Any

import torch

from ablate_kit.cli.app import main
from ablate_kit.sweeps.backends import worker


def run(*_: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more lines")


worker.Worker.run = run

if __name__ == "__main__":
    recipe, folder = sys.argv[1:]
    sys.argv = ["ablate", "sweep", recipe, "-o", folder, "--device", "cpu,cpu"]
    main()

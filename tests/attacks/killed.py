"""Writes copies in child processes, kills these at random points, and tells what was left.

Run by itself, so that forking copies a small process without threads. Prints, for each trial, the
states of the destination and of its receipt: absent, old, new or broken.
"""

import collections
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from ablate_kit.ablations.ablation import Ablation, Edit, Random
from ablate_kit.ablations.receipt import read_receipt
from ablate_kit.ablations.write import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.patch import Change, copy_folder_patched, write_patched

KINDS = ("new", "overwrite", "folder")
base, work, trials = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])


def write(kind: str, target: Path) -> None:
    with open_checkpoint(base / "model.safetensors" if kind != "folder" else base) as opened:
        names = list(opened.tensors)
        if kind == "new":
            edits = tuple(Edit(name, Random(1000, 1, 0)) for name in names)
            write_variants(opened, {target: Ablation("a", "units", edits)})
        elif kind == "overwrite":
            changes = [Change(name, bytes(4)) for name in names]
            write_patched(opened.archive, changes, target, overwrite=True)
        else:
            changes = [Change(name, bytes(4)) for name in names]
            copy_folder_patched(opened, changes, target)


def content(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def main() -> None:
    draws = random.Random(4)
    found: dict[str, collections.Counter[str]] = {}
    for kind in KINDS:
        target = work / f"{kind}.safetensors"
        start = time.monotonic()
        write(kind, work / f"whole-{kind}")
        span = time.monotonic() - start
        whole = content(work / f"whole-{kind}")
        states: collections.Counter[str] = collections.Counter()
        for _ in range(trials):
            if kind == "overwrite":
                target.write_bytes(b"old")
            child = os.fork()
            if child == 0:
                write(kind, target)
                os._exit(0)
            time.sleep(draws.uniform(0, 1.3 * span))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if not target.exists():
                states["absent"] += 1
            elif content(target) == whole:
                states["new"] += 1
            else:
                states["old" if content(target) == {"": b"old"} else "broken"] += 1
            if kind == "new" and target.exists():
                states["receipt"] += set(read_receipt(target).output) != {"0"}
            for path in sorted(work.iterdir(), reverse=True):
                if path.name.startswith("whole"):
                    continue
                for inside in sorted(path.rglob("*"), reverse=True) if path.is_dir() else ():
                    inside.unlink()
                path.rmdir() if path.is_dir() else path.unlink()
        found[kind] = states
    sys.stdout.write(json.dumps(found))


main()

"""Writes copies in child processes, kills these at calls of the system, and tells what was left.

Each child kills itself just before its n-th call that writes or renames: the same points on every
machine, of which the first is before anything is there and the last after everything.

Run by itself, so that forking copies a small process without threads. Prints, for each way to
write, the states of the destination and of its receipt: absent, old, new or broken.
"""

import collections
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit, Random
from ablate_kit.ablations.receipt import read_receipt
from ablate_kit.ablations.variant_files import write_variants
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import copy_folder_patched
from detector.disk.atomic import new_text

KINDS = ("new", "overwrite", "folder")
base, work = Path(sys.argv[1]), Path(sys.argv[2])


def write(kind: str, target: Path) -> None:
    with open_checkpoint(base / "model.safetensors" if kind != "folder" else base) as opened:
        names = list(opened.tensors)
        if kind == "new":
            edits = tuple(Edit(name, Random(1000, 1, 0)) for name in names)
            write_variants(opened, {target: Ablation("a", "units", edits)})
        elif kind == "overwrite":
            new_text(target, "new" * 1000, overwrite=True)
        else:
            changes = [ElementPatch(name, bytes(4)) for name in names]
            copy_folder_patched(opened, changes, target)


def content(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


CALLS = ("open", "mkdir", "write", "pwrite", "copy_file_range", "fsync", "replace", "rename")
POINTS = 34  # at most, of each way


class Counter:
    """Counts this process' calls, and kills it before the one of a given number."""

    def __init__(self) -> None:
        self.count, self.last = 0, -1
        for name in CALLS:
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counted


def main() -> None:
    counter = Counter()
    found: dict[str, collections.Counter[str]] = {}
    for kind in KINDS:
        target = work / f"{kind}.safetensors"
        if kind == "overwrite":
            (work / f"whole-{kind}").write_bytes(b"old")
        counter.count = 0
        write(kind, work / f"whole-{kind}")
        # One more than there are, so that one child ends.
        points = sorted({1 + counter.count * i // (POINTS - 1) for i in range(POINTS)})
        whole = content(work / f"whole-{kind}")
        states: collections.Counter[str] = collections.Counter()
        for point in points:
            if kind == "overwrite":
                target.write_bytes(b"old")
            child = os.fork()
            if child == 0:
                counter.count, counter.last = 0, point
                write(kind, target)
                os._exit(0)
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

"""Checkpoints of very many tensors: what listing and cutting cost, by the processor's time.

    python benchmarks/many_tensors.py [--tensors 100000] [--before FOLDER]

``--before`` is a checkout of another revision (``git worktree add FOLDER REVISION``), measured in
the same run, in turns.
"""

import argparse
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 2


def write(path: Path, count: int) -> None:
    names = [f"model.layers.{i // 100}.block{i % 100 // 10}.w{i % 10}.weight" for i in range(count)]
    header = {
        name: {"dtype": "F32", "shape": [2, 4], "data_offsets": [32 * i, 32 * i + 32]}
        for i, name in enumerate(names)
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    content = random.Random(1).randbytes(32 * count)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def seconds(code: Path, words: list[str], output: Path) -> float:
    """Of the processor, that ``ablate`` with ``words`` takes."""
    output.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "ablate_kit", *words],
        cwd=code, env={**os.environ, "PYTHONPATH": str(code)}, check=True, capture_output=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tensors", type=int, default=100_000)
    parser.add_argument("--before", type=Path)
    told = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "a.safetensors", Path(folder) / "out.safetensors"
        write(path, told.tensors)
        cut = ["component", str(path), "-o", str(output)]
        commands = {
            "keys": ["keys", str(path)],
            "component of 1": [*cut, "model.layers.3.block1.w1"],
            "component of 1,000": [*cut, "model.layers.{0-9}.**"],
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, words in commands.items():
                slow = told.before and name != "component of 1,000"  # which took hours
                old = seconds(told.before.resolve(), words, output) if slow else float("nan")
                taken[name].append((seconds(here, words, output), old))
        best = {name: tuple(map(min, zip(*times, strict=True))) for name, times in taken.items()}
        print(f"{told.tensors:,} tensors, {path.stat().st_size / 1e6:.1f} MB")
        for name, (new, old) in best.items():
            against = f", before {old:.2f} s: {old / new:.1f}x" if old == old else ""
            print(f"{name:20} {new:.2f} s{against}")
        ratio = best["component of 1,000"][0] / best["component of 1"][0]
        print(f"component of 1,000 against of 1: {ratio:.2f}x")


if __name__ == "__main__":
    main()

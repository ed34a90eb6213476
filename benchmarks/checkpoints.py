"""Time what is done to checkpoint files against how torch does it, in one run.

    python benchmarks/checkpoints.py [--repeats 3] [--folder runs/benchmark]

The peer imports torch, loads the file, copies it in memory, sets one tensor to zero and saves the
copy, as published ablation tools do. Whole processes, warm cache, one after the other; medians over
the repeats. The files are generated: 41 M parameters in the shapes of DETR (166 MB), and 800
tensors of 840 MB. A ratio above one says how many times less we take, but for the copy, where it
says how much longer than ``cp``.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GENERATE = """
import sys, torch
folder, generator = sys.argv[1], torch.Generator().manual_seed(0)
def layer(prefix, *attentions):
    shapes = {"linear1.weight": (2048, 256), "linear2.weight": (256, 2048), "norm.weight": (256,)}
    for a in attentions:
        shapes |= {f"{a}.in_proj_weight": (768, 256), f"{a}.in_proj_bias": (768,),
                   f"{a}.out_proj.weight": (256, 256), f"{a}.out_proj.bias": (256,)}
    return {f"{prefix}.{k}": v for k, v in shapes.items()}
shapes = {"query_embed.weight": (100, 256), "class_embed.weight": (92, 256)}
for i in range(6):
    shapes |= layer(f"transformer.encoder.layers.{i}", "self_attn")
    shapes |= layer(f"transformer.decoder.layers.{i}", "self_attn", "multihead_attn")
for i, (width, depth) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3)), 1):
    for j in range(depth):
        base = f"backbone.layer{i}.{j}"
        inside = width * (1 if (i, j) == (1, 0) else 2 if j == 0 else 4)
        shapes |= {f"{base}.conv1.weight": (width, inside, 1, 1),
                   f"{base}.conv2.weight": (width, width, 3, 3),
                   f"{base}.conv3.weight": (4 * width, width, 1, 1)}
        if j == 0:
            shapes[f"{base}.downsample.weight"] = (4 * width, inside, 1, 1)
total = sum(torch.Size(s).numel() for s in shapes.values())
shapes["backbone.rest"] = (41_500_000 - total,)
model = {k: torch.randn(s, generator=generator) for k, s in shapes.items()}
torch.save({"model": model}, f"{folder}/detr.pth")
large = {f"layers.{i // 8}.part{i % 8}.weight": torch.randn(512, 513, generator=generator)
         for i in range(800)}
torch.save(large, f"{folder}/large.pth")
torch.save(large, f"{folder}/large_legacy.pth", _use_new_zipfile_serialization=False)
"""
PEER = """
import copy, sys, torch
source, names, *targets = sys.argv[1:]
checkpoint = torch.load(source, map_location="cpu", weights_only=True)
for number, target in enumerate(targets):
    changed = copy.deepcopy(checkpoint)
    for name, tensor in changed["model"].items():
        if any(name.startswith(names.format(layer=i)) for i in range(number + 1)):
            tensor.zero_()
    torch.save(changed, target)
"""
LIST = """
import sys, torch
state = torch.load(sys.argv[1], weights_only=True, {options})
state = state.get("model", state)
print(len([(name, tensor.shape, tensor.dtype) for name, tensor in state.items()]))
"""
IN_MEMORY = """
import copy, sys, time, torch
from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Edit
from ablate_kit.ablations.apply_edits import applied
torch.set_num_threads(1)
checkpoint = torch.load(sys.argv[1], weights_only=True)
part = "transformer.decoder.layers.0.self_attn"
start = time.perf_counter()
changed = copy.deepcopy(torch.load(sys.argv[1], weights_only=True))
torch.save(changed, sys.argv[2])
theirs = time.perf_counter() - start
class Live(torch.nn.Module):
    def state_dict(self, keep_vars=False):
        return checkpoint["model"]
edits = tuple(Edit(name) for name in checkpoint["model"] if name.startswith(part))
ablation, module, times = Ablation("a", "component", edits), Live(), []
for _ in range(20):
    start = time.perf_counter()
    with applied(module, ablation):
        pass
    times.append(time.perf_counter() - start)
print(theirs, sorted(times)[10])
"""
COPY = """
import sys, time
from pathlib import Path
from ablate_kit.checkpoints import open_checkpoint
from ablate_kit.checkpoints.edit.elements import ElementPatch
from ablate_kit.checkpoints.edit.patched_copy import write_patched
start = time.perf_counter()
with open_checkpoint(Path(sys.argv[1])) as opened:
    info = opened.tensor("transformer.decoder.layers.0.self_attn.in_proj_weight")
    write_patched(opened.archive, [ElementPatch(info.name, bytes(4))], Path(sys.argv[2]))
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Cost:
    """Of a whole process."""

    seconds: float
    cpu: float
    megabytes: float
    printed: str


def run(*command: str | Path) -> Cost:
    """Runs a command and takes its wall time, processor time and peak memory.

    What earlier ones wrote is on disk before, and modules are compiled once, as when installed.
    """
    os.sync()
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, text=True, env=variables
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3, printed)


def median(repeats: int, *sides: Callable[[], Cost]) -> list[Cost]:
    """Of each side, taking turns, the median time and memory."""
    taken = [[side() for side in sides] for _ in range(repeats)]
    return [
        Cost(
            statistics.median(cost.seconds for cost in costs),
            statistics.median(cost.cpu for cost in costs),
            statistics.median(cost.megabytes for cost in costs),
            costs[-1].printed,
        )
        for costs in zip(*taken, strict=True)
    ]


def report(what: str, ours: Cost, theirs: Cost) -> None:
    time, cpu = theirs.seconds / ours.seconds, theirs.cpu / ours.cpu
    print(
        f"{what:34} {ours.seconds:6.2f} s {ours.cpu:5.2f} s cpu {ours.megabytes:4.0f} MB   "
        f"peer {theirs.seconds:6.2f} s {theirs.cpu:5.2f} s cpu {theirs.megabytes:4.0f} MB   "
        f"{time:5.1f}x, cpu {cpu:5.1f}x, memory {theirs.megabytes / ours.megabytes:4.1f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark"))
    given = parser.parse_args()
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    python, ablate = sys.executable, Path(sys.executable).with_name("ablate")
    if not (folder / "large_legacy.pth").exists():
        run(python, "-c", GENERATE, folder)
    detr = folder / "detr.pth"
    out = [folder / f"out{i}.pth" for i in range(6)]

    def clean() -> None:
        for path in folder.glob("out*"):
            path.unlink()

    def cleaned(*command: str | Path) -> Callable[[], Cost]:
        def side() -> Cost:
            clean()
            return run(*command)

        return side

    part = "transformer.decoder.layers.{layer}.self_attn"
    one = part.format(layer=0)
    ours, theirs = median(
        given.repeats,
        cleaned(ablate, "component", detr, one, "-o", out[0]),
        cleaned(python, "-c", PEER, detr, one, out[0]),
    )
    report("one edit of 166 MB (ablate component)", ours, theirs)
    run(ablate, "component", detr, one, "-o", folder / "outr.pth")
    receipt = (folder / "outr.pth.ablation.json").stat().st_size
    print(f"{'a variant as its receipt':34} {receipt} bytes, 1/{detr.stat().st_size // receipt:,}")
    six = (ablate, "layers", detr, "--base", "transformer.decoder.layers", "--part", "self_attn")
    targets = folder / "six"

    def layers() -> Cost:
        for path in targets.glob("*"):
            path.unlink()
        return run(*six, "-o", targets)

    ours, theirs = median(given.repeats, layers, cleaned(python, "-c", PEER, detr, part, *out))
    report("six progressive (ablate layers)", ours, theirs)
    for path in targets.glob("*"):
        path.unlink()
    targets.rmdir()
    clean()
    copies: list[tuple[float, float]] = []
    for _ in range(given.repeats + 6):
        clean()
        edit = float(run(python, "-c", COPY, detr, out[0]).printed)
        copies.append((edit, run("cp", detr, out[1]).seconds))
    edit, plain = (statistics.median(side) for side in zip(*copies, strict=True))
    print(
        f"{'the edit itself (write_patched)':34} {edit:7.2f} s   "
        f"cp {plain:.2f} s, {edit / plain:.2f}x as long"
    )
    clean()
    theirs_, ours_ = map(float, run(python, "-c", IN_MEMORY, detr, out[0]).printed.split())
    print(
        f"{'a variant in memory, and undone':34} {ours_ * 1e3:7.2f} ms   "
        f"load, copy, save {theirs_:.2f} s   time {theirs_ / ours_:,.0f}x"
    )
    clean()
    for name, options in (
        ("large.pth", "mmap=True"), ("large.pth", 'map_location="meta"'),
        ("large_legacy.pth", 'map_location="meta"'),
    ):  # fmt: skip
        file = folder / name
        ours, theirs = median(
            given.repeats,
            lambda file=file: run(ablate, "keys", file),  # type: ignore[misc]
            lambda file=file, options=options: run(  # type: ignore[misc]
                python, "-c", LIST.replace("{options}", options), file
            ),
        )
        report(f"list {name} ({options})", ours, theirs)
    for command in (["keys", folder / "large.pth"], ["keys", folder / "large_legacy.pth"],
                    ["meta", folder / "large_legacy.pth"],
                    ["diff", folder / "large.pth", folder / "large_legacy.pth"]):  # fmt: skip
        (ours,) = median(
            given.repeats,
            lambda command=command: run(ablate, *command),  # type: ignore[misc]
        )
        title = " ".join(("ablate", *(str(part).removeprefix(f"{folder}/") for part in command)))
        print(f"{title:42} {ours.seconds:5.2f} s {ours.cpu:5.2f} s cpu {ours.megabytes:4.0f} MB")


if __name__ == "__main__":
    main()

"""What this project does on a GPU, in one command: tests, operations, training, sweeps.

    python benchmarks/gpu.py --device cuda -o runs/gpu [--deimv2 DIR --coco DIR] [--voc VOCDEVKIT]
    python benchmarks/gpu.py --quick --device cpu -o runs/gpu     # the same steps, small

Each step is a process of its own with a limit in seconds, so that one that hangs, runs out of
memory or breaks the device takes no other along; all together stay under ten minutes. What
came back so far is written after every step: ``results.json``, and ``gpu.md`` as tables.
Times of one call are compared with each other only.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.models.inference.device import check_device
from ablate_kit.reports.table import Table
from ablate_kit.versions import versions_here

HERE = Path(__file__).resolve().parent
Row = dict[str, Any]
Rows = list[Row]
Say = Callable[[Rows], None]


@dataclass(frozen=True)
class Step:
    """``run`` tells its rows as soon as it has some; what it told by its limit counts."""

    name: str
    about: str
    limit: int
    run: Callable[[argparse.Namespace, Say], None]


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    if options.step:
        _child(options)
        return
    out = Path(options.output)
    out.mkdir(parents=True, exist_ok=True)
    head = {
        "date": date.today().isoformat(),
        "command": " ".join(["python", "benchmarks/gpu.py", *(arguments or sys.argv[1:])]),
        **_environment(options.device),
    }
    print("\n".join(f"{name}: {value}" for name, value in head.items()), flush=True)
    done: list[Row] = []
    for step in STEPS:
        if options.only and step.name not in options.only.split(","):
            continue
        done.append(_run(step, options))
        (out / "results.json").write_text(json.dumps({**head, "steps": done}, indent=1))
        (out / "gpu.md").write_text(_markdown(head, done))
        print(f"\n{_table(done[-1]).text()}", flush=True)
        print(f"{step.name}: {done[-1]['ended']} after {done[-1]['seconds']:.0f} s", flush=True)
        if done[-1]["log"]:
            print(done[-1]["log"], flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, few repeats")
    parser.add_argument("--deimv2", help="folder of a DEIMv2 in Hugging Face's layout")
    parser.add_argument("--coco", help="folder with instances.json and val2017/")
    parser.add_argument("--voc", help="a VOCdevkit, for the share of time spent waiting for data")
    parser.add_argument("--only", help=f"of {', '.join(step.name for step in STEPS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every step's limit")
    parser.add_argument("-o", "--output", default="runs/gpu")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=1e9, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    known = [step.name for step in STEPS]
    for name in options.only.split(",") if options.only else ():
        if name not in known:
            parser.error(
                f'no step "{name}"; expected {", ".join(known)}{did_you_mean(name, known)}'
            )
    try:
        check_device(options.device)
    except UserError as error:
        parser.error(str(error))
    return options


def _run(step: Step, options: argparse.Namespace) -> Row:
    """One step in a process of its own, and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        command = [sys.executable, str(Path(__file__).resolve()), "--step", step.name]
        command += ["--rows", str(rows), "--device", options.device, *_passed_on(options)]
        command += ["--seconds", str(0.75 * step.limit * options.scale)]
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            try:
                code: int | None = process.wait(step.limit * options.scale)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)  # its own processes, too
                process.wait()
                code = None
            log.seek(0)
            told = log.read()
        found = [json.loads(line) for line in _whole_lines(rows)]
    ended = {0: "done", None: f"stopped at its limit of {step.limit * options.scale:.0f} s"}
    return {
        "step": step.name,
        "about": step.about,
        "ended": ended.get(code, f"failed with exit code {code}"),
        "seconds": time.perf_counter() - began,
        "rows": found,
        "log": "" if code == 0 else told[-3000:],
    }


def _passed_on(options: argparse.Namespace) -> Iterator[str]:
    if options.quick:
        yield "--quick"
    for name in ("deimv2", "coco", "voc"):
        if getattr(options, name):
            yield from (f"--{name}", str(Path(getattr(options, name)).resolve()))


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def _child(options: argparse.Namespace) -> None:
    (step,) = (step for step in STEPS if step.name == options.step)
    sys.path.insert(0, str(HERE))  # the other benchmarks, beside this file

    def say(rows: Rows) -> None:
        with Path(options.rows).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    step.run(options, say)


def _environment(device: str) -> Row:
    packages = ("transformers", "natten", "DCNv4", "triton")  # None where one is not installed
    found: Row = {"cores": os.cpu_count(), **dict.fromkeys(packages), **versions_here(packages)}
    if torch.device(device).type == "cuda":
        found["card"] = torch.cuda.get_device_name(device)
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    else:
        found["card"] = f"none: {platform.machine()} CPU"
    return found


def _table(step: Row) -> Table:
    header = tuple(dict.fromkeys(name for row in step["rows"] for name in row))
    rows = tuple(tuple(_cell(row.get(name)) for name in header) for row in step["rows"])
    left = tuple(n for n in header if any(isinstance(row.get(n), str) for row in step["rows"]))
    return Table(f"{step['step']}: {step['about']}", header, rows, left)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return (
        {None: "-", True: "yes", False: "no"}.get(value, str(value))
        if (value is None or isinstance(value, bool))
        else str(value)
    )


def _markdown(head: Row, steps: list[Row]) -> str:
    lines = [f"{name}: {value}  " for name, value in head.items()]
    for step in steps:
        lines += ["", f"## {step['step']}", "", f"{step['about']} ({step['ended']})", ""]
        if step["rows"]:
            lines += _table(step).markdown().splitlines()[2:]
    return "\n".join(lines) + "\n"


# --- steps -----------------------------------------------------------------------------------


_OUTCOME = re.compile(r"^(tests/\S+?::\S.*?) (PASSED|FAILED|ERROR|SKIPPED)( \(.*\))?")


def _tests(options: argparse.Namespace, say: Say) -> None:
    """All tests marked gpu; on a CPU they are collected and skip."""
    marked = [
        str(path.relative_to(HERE.parent))
        for path in sorted((HERE.parent / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text()  # to collect all others takes as long as to run these
    ]
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-m", "gpu"]
    command += ["-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:xdist", *marked]
    if options.quick:
        command.append("--collect-only")
    tail: list[str] = []
    with subprocess.Popen(
        command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        began = time.perf_counter()
        for line in process.stdout or ():
            tail = [*tail, line.rstrip()][-150:]
            if told := _OUTCOME.match(line):
                now = time.perf_counter()
                row = {"test": told[1].removeprefix("tests/"), "seconds": now - began}
                say([{**row, "outcome": told[2].lower() + (told[3] or "")}])
                began = now
    said = next((line for line in reversed(tail) if line.strip()), "")
    say([{"test": "all", "outcome": said.strip("= ")}])
    if process.returncode:
        sys.exit("\n".join(tail))


def _ops(options: argparse.Namespace, say: Say) -> None:
    import ops

    for row in ops.rows(torch.device(options.device), options.quick, options.seconds):
        say([row])


def _training(options: argparse.Namespace, say: Say) -> None:
    import training

    for row in training.measure(options.device, options.quick, options.seconds):
        places = row.pop("synchronizing", {})
        say([row])
        for place, count in list(places.items())[:8]:
            say([{"synchronizes": place, "in two steps": count}])


class _Profiler:
    """A trainer's progress that profiles the steps after the first ``warm_up``."""

    def __init__(self, warm_up: int, steps: int) -> None:
        self.warm_up, self.steps, self.seen = warm_up, steps, 0
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self.profile = torch.profiler.profile(activities=activities)
        self.seconds = 0.0

    def start(self, epoch: int, epochs: int, batches: int, done: int) -> None: ...

    def batch(self, look: Any) -> None:
        self.seen += 1
        if self.seen in (self.warm_up, self.warm_up + self.steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self.seconds
            (self.profile.start if self.seen == self.warm_up else self.profile.stop)()

    def finish(self, record: Any) -> None: ...


def _profile(options: argparse.Namespace, say: Say) -> None:
    """The operations that a training step at thesis size spends most on, in bf16."""
    from detector.training.detection_task import detection_trainer
    from detector.training.recipes.train_recipe import parse_recipe

    cuda = torch.device(options.device).type == "cuda"
    warm_up, steps, size = (1, 1, 1) if options.quick else (3, 1, 8)
    model: Row = {"preset": "tiny", "image_size": 64} if options.quick else {"preset": "thesis"}
    data = {"kind": "shapes", "train": (warm_up + steps) * size, "val": 1}
    training: Row = {"epochs": 1, "batch_size": size, "workers": 0 if options.quick else 4}
    training |= {"warmup_epochs": 0.5, "precision": "bf16"}
    recipe = parse_recipe({"model": model, "data": data, "training": training}, "profile")
    watch = _Profiler(warm_up, steps)
    with tempfile.TemporaryDirectory() as folder:
        examples, _ = recipe.data.datasets()
        detection_trainer(recipe, examples, Path(folder), device=options.device).run(watch)
    everything = watch.profile.key_averages()
    # A kernel is listed by itself, and counts in the operation that launched it, too.
    found = [one for one in everything if one.device_type.name == "CPU"]
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    busy = sum(getattr(event, own) for event in found) / 1e3 / steps
    whole = watch.seconds * 1e3 / steps
    say([{"operation": "a step", "ms": whole, "share": 1.0}])
    say([{"operation": "all operations", "ms": busy, "share": busy / whole}])
    most = sorted(found, key=lambda event: -getattr(event, own))[: 5 if options.quick else 30]
    for event in most:
        ms = getattr(event, own) / 1e3 / steps
        calls = event.count / steps
        say([{"operation": event.key[:70], "ms": ms, "share": ms / whole, "calls": calls}])
    for event in found:  # how often the host launches, and how often it waits
        if event.key.startswith("cuda"):
            ms = event.self_cpu_time_total / 1e3 / steps
            row = {"operation": event.key[:70], "ms": ms, "share": ms / whole}
            say([{**row, "calls": event.count / steps, "on": "the host"}])


def _sweeps(options: argparse.Namespace, say: Say) -> None:
    import sweep

    case = sweep.Options(device=options.device, naive=1 if options.quick else 6)
    if options.quick:
        case = replace(case, images=1, size=64, only="detr-decoder")
    else:
        case = replace(case, images=8)
    if options.deimv2 and not options.quick:
        case = replace(case, deimv2=Path(options.deimv2))
        if options.coco:
            coco = Path(options.coco)
            case = replace(
                case, annotations=coco / "instances.json", images_folder=coco / "val2017"
            )
    for row in sweep.rows(case):
        say([asdict(row)])


def _gradients(options: argparse.Namespace, say: Say) -> None:
    import gradients

    case = gradients.Options(device=options.device, steps=2, rounds=2)
    if options.quick:
        case = replace(case, preset="tiny", image_size=64, steps=1, rounds=1)
    for row in gradients.rows(case):
        say([asdict(row)])


def _processes(options: argparse.Namespace, say: Say) -> None:
    """One sweep by one process, by two on the same device, and with every variant in full."""
    device = options.device
    change = {"data.limit": "24"}
    if options.quick:
        rule = "{kind: layers, base: decoder.layers, part: cross_attn}"
        change = {"data.limit": "2", "ablations": f"[{rule}]"}
    kinds = {
        "one process": ["--device", device],
        "two processes": ["--device", f"{device},{device}"],
        "one, without replay": ["--device", device, "--no-replay"],
    }
    with tempfile.TemporaryDirectory() as folder:
        first: dict[str, bytes] = {}
        for kind, arguments in kinds.items():
            out = Path(folder) / kind.replace(" ", "-")
            command = [sys.executable, "-m", "ablate_kit", "sweep"]
            command += ["recipes/sweep/shapes_tiny.yaml", *arguments, "-o", str(out)]
            command += [word for pair in change.items() for word in ("--set", "=".join(pair))]
            began = time.perf_counter()
            done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
            seconds = time.perf_counter() - began
            if done.returncode:
                sys.exit(done.stdout[-1000:] + done.stderr[-3000:])
            files = {
                str(path.relative_to(out)): path.read_bytes()
                for path in sorted((out / "detections").rglob("*"))
                if path.is_file()
            }
            first = first or files
            say([{"sweep": kind, "seconds": seconds, "detections": _same(first, files)}])


def _same(first: dict[str, bytes], files: dict[str, bytes]) -> str:
    if first is files:
        return f"{len(files)} files"
    other = [name for name in {**first, **files} if first.get(name) != files.get(name)]
    return f"{len(other)} of {len(files)} differ" if other else "the same"


STEPS = (
    Step("tests", "tests marked gpu", 110, _tests),
    Step("ops", "operations of the hybrid detector", 90, _ops),
    Step("training", "the hybrid detector at thesis size", 140, _training),
    Step("profile", "where a training step spends its time", 60, _profile),
    Step("sweeps", "naive against replay", 70, _sweeps),
    Step("gradients", "what the gradient monitor costs", 45, _gradients),
    Step("processes", "two processes on one device", 75, _processes),
)


if __name__ == "__main__":
    main()

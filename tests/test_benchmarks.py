"""The benchmarks of training and of GPUs run: small here, at thesis size where there is a GPU."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from detector.data.shapes import Shapes

Benchmark = Callable[[list[str]], None]


@pytest.fixture
def benchmark(repository: Path) -> Benchmark:
    path = repository / "benchmarks" / "training.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_training", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def rates(printed: str) -> dict[str, float]:
    rows = re.findall(r"^(\w+) +([\d.]+) +[\d.]+x +([\d.]+)", printed, re.MULTILINE)
    assert all(float(memory) > 0 for _, _, memory in rows)
    return {name: float(rate) for name, rate, _ in rows}


def devkit(folder: Path) -> Path:
    """Two images as PASCAL VOC 2007, one to train on and one to evaluate on."""
    year, shapes = folder / "VOC2007", Shapes(2, seed=3, size=64)
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (year / name).mkdir(parents=True)
    for i, split in enumerate(("train", "val")):
        Image.fromarray(shapes.image(i)).save(year / f"JPEGImages/00000{i}.jpg")
        (year / f"ImageSets/Main/{split}.txt").write_text(f"00000{i}\n")
        x0, y0, x1, y1 = shapes.annotations(i).boxes[0].round().astype(int)
        (year / f"Annotations/00000{i}.xml").write_text(
            "<annotation><size><width>64</width><height>64</height><depth>3</depth></size>"
            f"<filename>00000{i}.jpg</filename><object><name>cat</name><difficult>0</difficult>"
            f"<bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
            "</bndbox></object></annotation>"
        )
    return folder


def test_the_benchmark_of_training_at_tiny_size(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    size = ["--preset", "tiny", "--image-size", "64", "--batch-size", "1", "--workers", "0"]
    voc = ["--voc", str(devkit(tmp_path))]
    benchmark([*size, "--steps", "2", "--warm-up", "1", *voc])
    printed = capsys.readouterr().out
    assert rates(printed).keys() == {"fp32", "bf16"}
    assert all(rate > 0 for rate in rates(printed).values())
    assert "one epoch of 2007:train in bf16: 1 images" in printed


@pytest.mark.gpu
def test_the_benchmark_of_training_at_thesis_size(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    voc = ["--voc", str(shared / "data/voc/VOCdevkit")]
    benchmark(["--device", "cuda", "--steps", "10", "--activation-checkpointing", *voc])
    printed = capsys.readouterr().out
    assert rates(printed).keys() == {"fp32", "tf32", "bf16"}
    assert "one epoch of 2007:train in bf16: 620 images" in printed
    with capsys.disabled():  # what it is run for
        print(printed)  # noqa: T201


def on_a_gpu(repository: Path, out: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The steps of ``benchmarks/gpu.py`` on the CPU, by name, as it wrote them."""
    command = [sys.executable, "benchmarks/gpu.py", "--quick", "--device", "cpu", "-o", str(out)]
    done = subprocess.run([*command, *options], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads((out / "results.json").read_text())
    assert written["torch"] == torch.__version__
    return {step["step"]: step for step in written["steps"]}


def test_the_benchmark_of_gpus_on_a_cpu(repository: Path, tmp_path: Path) -> None:
    steps = on_a_gpu(repository, tmp_path, "--only", "tests,profile", "--scale", "20")
    assert {name: step["ended"] for name, step in steps.items()} == {
        "tests": "done",
        "profile": "done",
    }
    *_, collected = steps["tests"]["rows"]
    assert re.match(r"[1-9]\d*/\d+ tests collected", collected["outcome"])
    whole, busy, *operations = steps["profile"]["rows"]
    assert 0 < busy["ms"] <= whole["ms"] * torch.get_num_threads() * 2
    assert len(operations) >= 5
    tables = (tmp_path / "gpu.md").read_text()
    assert "| a step |" in tables


def test_a_step_that_hangs_is_stopped_and_the_next_one_runs(
    repository: Path, tmp_path: Path
) -> None:
    steps = on_a_gpu(repository, tmp_path, "--only", "profile,gradients", "--scale", "0.001")
    assert [step["ended"][:20] for step in steps.values()] == ["stopped at its limit"] * 2


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--device", "cuda:99", 'cannot use the device "cuda:99"'),
        ("--only", "ops,training,sweep", 'no step "sweep"; expected .*did you mean "sweeps"'),
    ],
)
def test_what_the_benchmark_of_gpus_cannot_do_is_said_first(
    repository: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", option, value]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "out")], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert not (tmp_path / "out").exists()


def test_a_page_gets_the_table_of_a_benchmark_or_is_refused_before_it_runs(
    repository: Path, tmp_path: Path
) -> None:
    table = r"lambda names: ['| \\d |', *names]"
    program = f"from page_table import print_table; print_table('', '', {table})"
    page = tmp_path / "page.md"

    def done(text: str) -> subprocess.CompletedProcess[str]:
        page.write_text(text)
        return subprocess.run(
            [sys.executable, "-c", program, "| b |", "--write", str(page)],
            cwd=repository / "benchmarks", capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done("Above.\n\n| a |\n| 1 |\n\nBelow.\n").returncode == 0
    assert page.read_text() == "Above.\n\n| \\d |\n| b |\n\nBelow.\n"
    refused = done("No table.\n")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.endswith(f"{page} has no table to replace\n")

"""The benchmark of training runs: small here, at thesis size where there is a GPU."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

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

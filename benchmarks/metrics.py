"""The full report against the mAP of pycocotools alone: time and peak memory, a process for each.

    python benchmarks/metrics.py [--images 5000] [--detections 100] [--classes 80] [--repeats 1]

The data are random boxes around random objects, written once as COCO JSON. "Full report" is all of
``evaluate`` (COCO's twelve numbers, AP per class, three kinds of F1 and GIoU per class) and the
confusion matrix; loading is reading the two files. Seconds are of the CPU.
With ``--score N`` instead ``ablate score`` as a whole, of N files: 50,000 images of 40 detections
are of COCO's size.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def write_data(folder: Path, images: int, detections: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    objects = rng.poisson(7.3, images)
    image = np.repeat(np.arange(images), objects)
    size = np.exp(rng.normal(4, 1, (len(image), 2))).clip(4, 400)
    truth = np.concatenate([rng.uniform(0, 1, (len(image), 2)) * (640 - size), size], 1).round(2)
    label = rng.integers(0, classes, len(image))
    crowd = rng.random(len(image)) < 0.02
    annotations = [
        {"id": i + 1, "image_id": int(image[i]) + 1, "category_id": int(label[i]) + 1,
         "bbox": truth[i].tolist(), "area": float(truth[i, 2] * truth[i, 3]),
         "iscrowd": int(crowd[i])}
        for i in range(len(image))
    ]  # fmt: skip
    dataset = {
        "images": [{"id": i + 1, "width": 640, "height": 640} for i in range(images)],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(classes)],
        "annotations": annotations,
    }
    (folder / "truth.json").write_text(json.dumps(dataset))

    seen = np.repeat(np.arange(images), detections)
    count = len(seen)
    first = np.cumsum(objects) - objects
    near = (rng.random(count) < 0.4) & (objects[seen] > 0)
    source = first[seen] + rng.integers(0, np.maximum(objects[seen], 1))
    source = np.minimum(source, len(truth) - 1)
    box = np.concatenate([rng.uniform(0, 500, (count, 2)), rng.uniform(5, 140, (count, 2))], 1)
    moved = truth[source] + rng.normal(0, 0.12, (count, 4)) * np.tile(truth[source, 2:], 2)
    box = np.where(near[:, None], moved, box)
    box[:, 2:] = np.abs(box[:, 2:]) + 1
    chance = rng.random(count) < 0.2
    found = np.where(near & ~chance, label[source], rng.integers(0, classes, count))
    score = np.where(near, rng.beta(2, 3, count), rng.beta(1, 8, count))
    rows = zip(seen.tolist(), found.tolist(), box.round(2).tolist(), score.round(5).tolist(),
               strict=True)  # fmt: skip
    results = [
        {"image_id": i + 1, "category_id": c + 1, "bbox": b, "score": s} for i, c, b, s in rows
    ]
    (folder / "found.json").write_text(json.dumps(results))


class Clock:
    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.parts[name] = time.process_time() - start


def pycocotools(folder: Path, clock: Clock) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        with clock.part("load"):
            truth = COCO(str(folder / "truth.json"))
            found = truth.loadRes(str(folder / "found.json"))
        with clock.part("report"):
            evaluation = COCOeval(truth, found, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
    return float(evaluation.stats[0])


def full_report(folder: Path, clock: Clock) -> float:
    from ablate_kit.metrics.confusion import confusion
    from ablate_kit.metrics.detection_files import read_dump
    from ablate_kit.metrics.evaluate import evaluate
    from ablate_kit.models.labels.annotations import read_annotations

    with clock.part("load"):
        against = read_annotations(folder / "truth.json")
        found, _ = read_dump(folder / "found.json", against)
    with clock.part("report"):
        report = evaluate(against.truth, found)
        confusion(against.truth, found, report.thresholds.calibrated)
    return float(report.overall["AP"] or 0)


def matched_pairs(folder: Path, clock: Clock) -> float:
    from ablate_kit.metrics.detection_files import read_dump
    from ablate_kit.metrics.f1 import f1_matched_pairs
    from ablate_kit.metrics.giou import published_giou
    from ablate_kit.metrics.matching import published_pairs
    from ablate_kit.models.labels.annotations import read_annotations

    with clock.part("load"):
        against = read_annotations(folder / "truth.json")
        found, _ = read_dump(folder / "found.json", against)
    with clock.part("report"):
        pairs = published_pairs(against.truth, found)
        published_giou(against.truth, found, pairs)
        result = f1_matched_pairs(against.truth, found, pairs)
    return result.overall


RUNS = {
    "pycocotools mAP": pycocotools,
    "full report": full_report,
    "matched-pair F1 and GIoU": matched_pairs,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--score", type=int, metavar="N", help="only ablate score, of N files")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_data(options.write, options.images, options.detections, options.classes)
        return
    if options.score:
        _score(options)
        return
    if options.run:
        clock = Clock()
        value = RUNS[options.run](options.folder, clock)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**clock.parts, "peak": peak, "value": value}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.images, options.detections, options.classes)
        count = options.images * options.detections
        print(f"{options.images:,} images, {count:,} detections, {options.classes} classes")
        best: dict[str, dict[str, float]] = {}
        for run in RUNS:
            done = [_alone(run, folder) for _ in range(options.repeats)]
            best[run] = {key: min(one[key] for one in done) for key in done[0]}
    print(f"{'':26}  load s  report s  peak MB  value")
    for run, one in best.items():
        print(
            f"{run:26}  {one['load']:6.2f}  {one['report']:8.2f}  {one['peak']:7.0f}  "
            f"{one['value']:.6f}"
        )
    theirs, ours = best["pycocotools mAP"], best["full report"]
    both = [one["load"] + one["report"] for one in (theirs, ours)]
    print(f"full report against pycocotools' mAP: {theirs['report'] / ours['report']:.1f}x faster, "
          f"{both[0] / both[1]:.1f}x with loading, "
          f"{theirs['peak'] / ours['peak']:.1f}x less memory at the peak")  # fmt: skip
    assert theirs["value"] == ours["value"], "AP differs"


def _score(options: argparse.Namespace) -> None:
    """``ablate score`` with its report and intervals, as a user runs it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Elsewhere: what this process ever took would count as the peak of those that it starts.
        sizes = {"images": options.images, "detections": options.detections,
                 "classes": options.classes}  # fmt: skip
        numbers = [text for key, value in sizes.items() for text in (f"--{key}", str(value))]
        subprocess.run([sys.executable, __file__, *numbers, "--write", name], check=True)
        files = [folder / f"found{i}.json" for i in range(options.score)]
        for file in files:
            file.symlink_to(folder / "found.json")
        command = [sys.executable, "-m", "ablate_kit", "score", *map(str, files)]
        command += ["--annotations", str(folder / "truth.json"), "-o", str(folder / "report")]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"ablate score ended with {process.returncode}")
        count = options.images * options.detections
        print(f"ablate score, {options.score} of {count:,} detections of {options.images:,} "
              f"images: {wall:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of the CPU, "
              f"peak {used.ru_maxrss / 2**20:.2f} GB")  # fmt: skip


def _alone(run: str, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--run", run, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    main()

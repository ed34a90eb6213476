"""Intervals of a whole study: the bootstrap against evaluating data sets with images repeated.

    python benchmarks/bootstrap.py [--images 5000] [--detections 100] [--classes 80]
                                   [--resamples 2000] [--variants 2] [--of 60] [--brute 2]
                                   [--peer FOLDER [--repeats 3]]

Seconds are of the CPU, in one process, one thread. A variant's time is measured on ``--variants``
sets of random detections and multiplied by ``--of``; that of the brute force on ``--brute``
resamples of one of them, each evaluated as a data set of its own, and multiplied by all resamples.
Every number of those resamples is asserted to be the same.

With ``--peer``, another checkout of this project: that code and this one in turn, each in a process
of its own, on the same ``--variants`` sets of detections. Seconds are of the wall and of the CPU;
the numbers are held against the peer's, and their bytes are compared for one thread and for all.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from chosen_images import take
from metrics import write_data

from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Samples
from ablate_kit.metrics.uncertainty.significance import changes
from ablate_kit.models.labels.annotations import read_annotations

THRESHOLD = 0.3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--variants", type=int, default=2, help="that are measured")
    parser.add_argument("--of", type=int, default=60, help="that a study is thought to have")
    parser.add_argument("--brute", type=int, default=2, help="resamples evaluated one by one")
    parser.add_argument("--peer", type=Path, help="a checkout of this project to compare with")
    parser.add_argument("--repeats", type=int, default=3, help="of the comparison")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_data(Path(name), options.images, options.detections, options.classes)
        against = read_annotations(Path(name) / "truth.json")
        found, _ = read_dump(Path(name) / "found.json", against)
    truth = against.truth
    if options.peer:
        _in_turn(options, truth, found)
        return
    shaken = [_shaken(found, i) for i in range(options.variants)]
    start = time.process_time()
    bootstrap = Bootstrap(truth, options.resamples)
    drawn = time.process_time() - start
    samples = []
    for one in shaken:
        samples.append(bootstrap.samples(one, THRESHOLD))
    seconds = (time.process_time() - start - drawn) / len(shaken)
    start = time.process_time()
    changes(samples[0], samples[1:] * options.of)
    last = time.process_time() - start
    total = drawn + seconds * (options.of + 1) + last
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{options.images:,} images, {len(found):,} detections per variant, "
          f"{options.classes} classes, {options.resamples:,} resamples")  # fmt: skip
    print(f"bootstrap    {seconds:8.2f} s per variant  {total:10.1f} s for {options.of} variants  "
          f"peak {peak:.1f} GB")  # fmt: skip
    if options.brute:
        slow = _brute(truth, shaken[0], bootstrap, samples[0], options.brute)
        alone = slow * options.resamples
        print(f"brute force  {alone:8.0f} s per variant  "
              f"{alone * (options.of + 1):10.0f} s for {options.of} variants")  # fmt: skip
        print(f"{alone / seconds:.0f}x, the same numbers")
    print(json.dumps({"per_variant": seconds, "total": total}))


def _shaken(found: Detections, seed: int) -> Detections:
    rng = np.random.default_rng(seed)
    moved = found.boxes + rng.normal(0, 2, found.boxes.shape)
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    scores = np.clip(found.scores + rng.normal(0, 0.02, len(found)), 0, 1)
    return Detections(found.image, moved, scores, found.labels)


def _in_turn(options: argparse.Namespace, truth: GroundTruth, found: Detections) -> None:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        (data / "truth.json").write_text(json.dumps(truth.to_coco()))
        columns = {key: getattr(found, key) for key in ("image", "boxes", "scores", "labels")}
        np.savez(data / "found.npz", **columns)
        here, size = Path(__file__).parents[1], (options.resamples, options.variants)
        _one(here, data, options.resamples, 1, 1)  # compiles, once for all
        seconds: dict[str, list[float]] = {"peer": [], "here": []}
        for _ in range(options.repeats):
            theirs = _one(options.peer.resolve(), data, *size, None)
            ours = _one(here, data, *size, None)
            seconds["peer"].append(theirs["wall"])
            seconds["here"].append(ours["wall"])
            told = (
                f"{where} {one['wall']:.1f} s, {one['cpu']:.1f} s of the CPU, {one['peak']:.2f} GB"
                for where, one in (("peer", theirs), ("here", ours))
            )
            wall, cpu = (theirs[key] / ours[key] for key in ("wall", "cpu"))
            print(f"{options.variants} variants: {'; '.join(told)}; {wall:.1f}x less time, "
                  f"{cpu:.1f}x less of the CPU", flush=True)  # fmt: skip
            assert np.allclose(theirs["sums"], ours["sums"], rtol=0, atol=1e-9)
        alone = _one(here, data, *size, 1)
    assert alone["digest"] == ours["digest"], "bytes depend on the number of threads"
    ratios = np.divide(seconds["peer"], seconds["here"])
    print(f"{np.median(ratios):.1f}x in the median; the same numbers; one thread takes "
          f"{alone['wall']:.1f} s, {alone['peak']:.2f} GB, and gives the same bytes")  # fmt: skip
    print(json.dumps({"seconds": seconds, "ratio": float(np.median(ratios))}))


def _one(
    source: Path, data: Path, resamples: int, variants: int, threads: int | None
) -> dict[str, Any]:
    script = Path(__file__).with_name("bootstrap_alone.py")
    numbers = map(str, (resamples, variants, threads or 0))
    command = [sys.executable, str(script), str(data), *numbers]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert Path(found["code"]).is_relative_to(source), f"{found['code']} ran instead of {source}"
    return found


def _brute(
    truth: GroundTruth, found: Detections, bootstrap: Bootstrap, samples: Samples, count: int
) -> float:
    seconds = 0.0
    for i in range(1, count + 1):
        weights = bootstrap.weights[:, i]
        images, (again,) = take(truth, [found], np.repeat(np.arange(len(weights)), weights))
        start = time.process_time()
        numbers = evaluate(images, again, score_threshold=THRESHOLD)
        seconds += time.process_time() - start
        for metric in KEYS:
            assert (
                abs((numbers.overall[metric] or 0.0) - samples.overall[metric].resampled[i - 1])
                < 1e-9
            ), metric
    return seconds / count


if __name__ == "__main__":
    main()

"""Intervals of a whole study: the bootstrap against evaluating data sets with images repeated.

    python benchmarks/bootstrap.py [--images 5000] [--detections 100] [--classes 80]
                                   [--resamples 2000] [--variants 2] [--of 60] [--brute 2]

Seconds are of the CPU, in one process, one thread. A variant's time is measured on ``--variants``
sets of random detections and multiplied by ``--of``; that of the brute force on ``--brute``
resamples of one of them, each evaluated as a data set of its own, and multiplied by all resamples.
Every number of those resamples is asserted to be the same.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from metrics import write_data

from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Samples
from ablate_kit.metrics.uncertainty.significance import changes
from ablate_kit.models.annotations import read_annotations

THRESHOLD = 0.3


def repeated(
    truth: GroundTruth, found: Detections, weights: np.ndarray
) -> tuple[GroundTruth, Detections]:
    """The data set with image i in it ``weights[i]`` times."""
    source = np.repeat(np.arange(len(weights)), weights)
    objects, boxes = _rows(truth.image, source), _rows(found.image, source)
    chosen, seen = np.concatenate(objects), np.concatenate(boxes)
    return (
        GroundTruth(
            image_ids=np.arange(len(source)),
            widths=truth.widths[source],
            heights=truth.heights[source],
            image=np.repeat(np.arange(len(source)), [len(one) for one in objects]),
            boxes=truth.boxes[chosen],
            labels=truth.labels[chosen],
            ignore=truth.ignore[chosen],
            areas=truth.areas[chosen],
            ids=np.arange(len(chosen)) + 1,
            classes=truth.classes,
            category_ids=truth.category_ids,
        ),
        Detections(
            image=np.repeat(np.arange(len(source)), [len(one) for one in boxes]),
            boxes=found.boxes[seen],
            scores=found.scores[seen],
            labels=found.labels[seen],
        ),
    )


def _rows(image: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(image, kind="stable")
    bounds = np.searchsorted(image[order], np.arange(source.max() + 2))
    return [order[bounds[i] : bounds[i + 1]] for i in source]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--variants", type=int, default=2, help="that are measured")
    parser.add_argument("--of", type=int, default=60, help="that a study is thought to have")
    parser.add_argument("--brute", type=int, default=2, help="resamples evaluated one by one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_data(Path(name), options.images, options.detections, options.classes)
        against = read_annotations(Path(name) / "truth.json")
        found, _ = read_dump(Path(name) / "found.json", against)
    truth = against.truth
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


def _brute(
    truth: GroundTruth,
    found: Detections,
    bootstrap: Bootstrap,
    samples: Samples,
    count: int,
) -> float:
    seconds = 0.0
    for i in range(1, count + 1):
        again = repeated(truth, found, bootstrap.weights[:, i])
        start = time.process_time()
        numbers = evaluate(*again, score_threshold=THRESHOLD)
        seconds += time.process_time() - start
        for metric in KEYS:
            assert (
                abs((numbers.overall[metric] or 0.0) - samples.overall[metric].resampled[i - 1])
                < 1e-9
            ), metric
    return seconds / count


if __name__ == "__main__":
    main()

"""One study's bootstrap by whichever version of this project is on the path; for ``bootstrap.py``.

    python benchmarks/bootstrap_alone.py FOLDER RESAMPLES VARIANTS THREADS

Prints seconds, memory, and what the numbers are.
"""

import hashlib
import json
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

KEYS = ("AP", "AP50", "f1_calibrated", "giou_penalized")


def module(*names: str) -> Any:
    """The first that there is: modules have moved."""
    for name in names:
        try:
            return import_module(f"ablate_kit.metrics.{name}")
        except ModuleNotFoundError:
            continue
    return None


def main() -> None:
    data, (resamples, variants, threads) = Path(sys.argv[1]), map(int, sys.argv[2:])
    stores = module("detections")
    bootstraps = module("uncertainty.bootstrap", "bootstrap")
    significance = module("uncertainty.significance", "significance")
    parallel = module("parallel")
    truth = stores.GroundTruth.from_coco(json.loads((data / "truth.json").read_text()))
    found = stores.Detections(**dict(np.load(data / "found.npz")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, start_cpu = time.perf_counter(), time.process_time()
    bootstrap = bootstraps.Bootstrap(truth, resamples)

    def samples(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        moved = found.boxes + rng.normal(0, 2, found.boxes.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        scores = np.clip(found.scores + rng.normal(0, 0.02, len(found)), 0, 1)
        one = stores.Detections(found.image, moved, scores, found.labels)
        return bootstrap.samples(one, 0.3, per_class=False)

    order = range(variants + 1)
    if parallel is None:
        made = [samples(seed) for seed in order]
    else:
        made = list(parallel.in_threads(samples, order, threads or None))
    significance.changes(made[0], made[1:])
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    numbers = np.asarray([[one.overall[key].resampled for key in KEYS] for one in made])
    told = {
        "wall": wall,
        "cpu": cpu,
        "peak": peak / 2**20,
        "before": before / 2**20,
        "digest": hashlib.sha256(numbers.tobytes()).hexdigest(),
        "sums": numbers.mean(axis=2).ravel().tolist(),
        "code": bootstraps.__file__,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

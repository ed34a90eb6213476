"""How often the cause that is told of a lost object is the one it was lost by.

    python benchmarks/injected_causes.py [--shared ../shared/data] [--seeds 10]

Of DEIMv2-Atto's detections of 206 photographs of COCO, a tenth of the right boxes above the score
threshold get one fault: a lower score, another class, a place half a width beside, both of these,
or are gone. Objects that another box finds then are not lost. Of the others, the share that is put
down to each cause; beside it that by what is around them in the variant alone, whatever was there
before.
"""

import argparse
import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from populations import populations

from ablate_kit.metrics.detections import Detections
from ablate_kit.metrics.error_types import Cause, errors
from ablate_kit.metrics.matching import Outcome, greedy_matches
from ablate_kit.metrics.transitions import changes

THRESHOLD, SHARE = 0.345, 10
Fault = Callable[[np.random.Generator, Detections, np.ndarray], Detections]


def lower(_: np.random.Generator, found: Detections, rows: np.ndarray) -> Detections:
    scores = found.scores.copy()
    scores[rows] = THRESHOLD / 2
    return dataclasses.replace(found, scores=scores)


def relabeled(rng: np.random.Generator, found: Detections, rows: np.ndarray) -> Detections:
    labels = found.labels.copy()
    classes = int(labels.max()) + 1
    labels[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return dataclasses.replace(found, labels=labels)


def beside(_: np.random.Generator, found: Detections, rows: np.ndarray) -> Detections:
    boxes = found.boxes.copy()
    boxes[rows, ::2] += (boxes[rows, 2] - boxes[rows, 0])[:, None] / 2
    return dataclasses.replace(found, boxes=boxes)


FAULTS: dict[str, Fault] = {
    "a lower score": lower,
    "another class": relabeled,
    "beside": beside,
    "beside, of another class": lambda *given: beside(
        given[0], relabeled(*given), given[2]
    ),
    "gone": lambda _, found, rows: found.rows(~np.isin(np.arange(len(found)), rows)),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    if not (options.shared / "detections").is_dir():
        parser.error(f"{options.shared}: no detections there")
    coco = populations(options.shared)[1]
    truth, (found, _) = coco.truth, coco.pair
    matches = greedy_matches(truth, found)
    right = np.flatnonzero(
        (matches.outcome == Outcome.TRUE_POSITIVE) & (matches.scores >= THRESHOLD)
    )
    before = errors(truth, found, THRESHOLD)
    for name, fault in FAULTS.items():
        ours, alone = Counter[Cause](), Counter[Cause]()
        for seed in range(options.seeds):
            rng = np.random.default_rng([17, seed])
            rows = rng.choice(right, len(right) // SHARE, replace=False)
            after = errors(truth, fault(rng, found, rows), THRESHOLD)
            told = changes(truth, before, after)
            lost = matches.truth[rows]
            lost = lost[told.lost[lost]]
            ours.update(map(Cause, told.cause[lost].tolist()))
            alone.update(map(Cause, after.truth[lost].tolist()))
        print(f"{name}: {_shares(ours)}; in the variant alone: {_shares(alone)}", flush=True)


def _shares(counts: Counter[Cause]) -> str:
    total = counts.total()
    return ", ".join(f"{cause.name.lower()} {n / total:.0%}" for cause, n in counts.most_common())


if __name__ == "__main__":
    main()

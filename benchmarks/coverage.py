"""How often intervals hold the truth, and stars are false: today's test against the former one.

    python benchmarks/coverage.py [--quick] [--shared ../shared/data] [--trials 500]
                                  [--resamples 500] [--images 50,100]

A population of images is sampled, with replacement, again and again; each sample is a study, and
the truth is what the whole population says. F1 and GIoU are asked for at the thresholds that a
study used: the truth is the population's at those.

* ``voc``: 500 photographs of VOC2007's test set, two published detectors.
* ``coco``: COCO's photographs with the detections of DEIMv2-Atto; the variant is the same with
  boxes and scores shaken.
* ``null``: the same photographs; baseline and variant are two such shaken copies, drawn anew for
  each study, so that every true change is 0. Losses and gains are counted apart.
* ``family``: studies of many variants whose changes are all chance, some of it shared.
* ``verdicts``: studies of 24 variants whose true changes are known; how often any verdict of a
  study is wrong (free of what is beyond the margin, costs or gains of what is within), and which
  share of variants is decided with so many images.

``before`` is the normal interval with the bootstrap's standard error, with the threshold of F1
chosen on the very images that are compared; Holm's adjustment. The populations' files are not part
of this repository: without them only ``family`` is run. ``--quick`` is one size and fewer studies.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from ablate_kit.metrics.calibration import Calibration, cross_fitted
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.evaluate import evaluate
from ablate_kit.metrics.f1 import f1_at
from ablate_kit.metrics.giou import matched_giou
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.matching import greedy_matches, hungarian_pairs
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Sampled
from ablate_kit.metrics.uncertainty.chance import AgainstChance, held_against_chance
from ablate_kit.metrics.uncertainty.multiplicity import holm, max_t
from ablate_kit.metrics.uncertainty.verdict import Verdict, verdicts
from ablate_kit.models.annotations import read_annotations

Pair = tuple[Detections, Detections]


@dataclass(frozen=True)
class Population:
    name: str
    truth: GroundTruth
    pair: Pair
    renew: Callable[[Pair, int], Pair] = lambda pair, _: pair


def main() -> None:
    sys.path.remove(str(Path(__file__).parent))  # numba would take this file for the package
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50 images, 60 studies of each kind")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--images", default="50,100")
    options = parser.parse_args()
    trials = 60 if options.quick else options.trials
    sizes = [50] if options.quick else [int(one) for one in options.images.split(",")]
    family(1000 if options.quick else 10_000)
    verdict_errors(1000 if options.quick else 10_000)
    verdict_power(200 if options.quick else 2000)
    if not (options.shared / "detections").is_dir():
        print(f"{options.shared}: no detections there, so coverage is not simulated")
        return
    for population in populations(options.shared):
        for images in sizes:
            coverage(population, images, trials, options.resamples)


def family(studies: int) -> None:
    """Chance of any false star among 30 variants, none of which changes anything."""
    for shared in (0.0, 0.5, 0.9):
        rng = np.random.default_rng([1, int(10 * shared)])
        stars = {"max-T": 0, "Holm": 0}
        for _ in range(studies):
            common, own = rng.normal(0, 1, 1001), rng.normal(0, 1, (30, 1001))
            chance = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
            tests = [AgainstChance(float(one[0]), 1.0, 1e6, one[1:]) for one in chance]
            stars["max-T"] += min(max_t(tests)) < 0.05
            stars["Holm"] += min(p for p in holm([one.p for one in tests]) if p is not None) < 0.05
        rates = "  ".join(f"{name} {100 * count / studies:4.1f} %" for name, count in stars.items())
        print(f"family: any false star of 30 variants, correlation {shared:.1f}: {rates} "
              f"({studies:,} studies)", flush=True)  # fmt: skip


MARGIN, VARIANTS = 0.01, 24
CHANCE = 0.09  # deviation of an image's part in a change of AP, as 206 photographs of COCO have it
TRUE = {
    "0, and a margin of 0.0001": (np.zeros(VARIANTS), 0.0001),
    "just within the margin": (np.full(VARIANTS, 1e-9 - MARGIN), MARGIN),
    "just beyond it": (np.full(VARIANTS, -1e-9 - MARGIN), MARGIN),
    "all around it": (np.linspace(-2 * MARGIN, 0, VARIANTS), MARGIN),
    "within +margin": (np.full(VARIANTS, MARGIN - 1e-9), MARGIN),
}
ALIKE = {
    "apart": np.zeros(VARIANTS),
    "together (0.9)": np.full(VARIANTS, np.sqrt(0.9)),
    "in two camps (±0.9)": np.repeat([1, -1], VARIANTS // 2) * np.sqrt(0.9),
}


def verdict_errors(studies: int, images: int = 200) -> None:
    """Chance that any verdict of a study is wrong."""
    for what, (true, margin) in TRUE.items():
        rates = []
        for i, (alike, shared) in enumerate(ALIKE.items()):
            rng = np.random.default_rng([4, list(TRUE).index(what), i])
            wrong = sum(
                any(_is_wrong(*one) for one in zip(found, true.tolist(), strict=True))
                for found in (_judged(rng, true, shared, images, margin) for _ in range(studies))
            )
            rates.append(f"{alike} {100 * wrong / studies:4.1f} %")
        print(f"verdicts: any wrong of {VARIANTS}; true change {what}: {'  '.join(rates)} "
              f"({studies:,} studies)", flush=True)  # fmt: skip


def verdict_power(studies: int) -> None:
    """What share of the variants is decided, and rightly, by the number of images."""
    kinds = {"no change": 0.0, "half the margin": -MARGIN / 2, "twice the margin": -2 * MARGIN,
             "four times": -4 * MARGIN}  # fmt: skip
    true = np.repeat(list(kinds.values()), VARIANTS // len(kinds))
    shared = np.full(VARIANTS, np.sqrt(0.3))
    print(f"verdicts: share of {VARIANTS} variants decided at a margin of {MARGIN}, by true change")
    print(f"  {'images':>8}" + "".join(f"{kind:>18}" for kind in kinds) + f"{'any wrong':>12}")
    for images in (100, 200, 500, 1000, 2000, 5000):
        rng = np.random.default_rng([5, images])
        decided, wrong = np.zeros(VARIANTS), 0
        for _ in range(studies):
            found = _judged(rng, true, shared, images, MARGIN)
            bad = [_is_wrong(*one) for one in zip(found, true.tolist(), strict=True)]
            right = [one.outcome != "undecided" for one in found]
            decided += np.array(right) & ~np.array(bad)
            wrong += any(bad)
        shares = decided.reshape(len(kinds), -1).mean(axis=1) / studies
        print(f"  {images:>8}" + "".join(f"{100 * one:>16.1f} %" for one in shares)
              + f"{100 * wrong / studies:>10.1f} %", flush=True)  # fmt: skip


def _judged(
    rng: np.random.Generator, true: np.ndarray, shared: np.ndarray, images: int, margin: float
) -> list[Verdict]:
    """The verdicts of one study: normal changes, a part of whose chance is common to all."""
    error = CHANCE / np.sqrt(images)
    own = rng.normal(0, 1, (len(true), 1001))
    chance = shared[:, None] * rng.normal(0, 1, 1001) + np.sqrt(1 - shared**2)[:, None] * own
    tests = [
        AgainstChance(float(value + error * one[0]), error, images - 1.0, one[1:])
        for value, one in zip(true, chance, strict=True)
    ]
    return verdicts(tests, max_t(tests), images, margin)


def _is_wrong(found: Verdict, true: float) -> bool:
    return {
        "costs": true > -found.margin,
        "free": abs(true) > found.margin,
        "gains": true < found.margin,
        "undecided": False,
    }[found.outcome]


def coverage(population: Population, images: int, trials: int, resamples: int) -> None:
    truth, total = population.truth, len(population.truth.image_ids)
    exact = _Truth(population)
    rng = np.random.default_rng([2, images])
    inside = {(metric, kind): 0 for metric in KEYS for kind in ("before", "now")}
    low, high = dict(inside), dict(inside)
    for trial in range(trials):
        source = np.sort(rng.integers(0, total, images))
        sample, drawn = take(truth, population.pair, source)
        one, other = population.renew(drawn, trial)
        matches = greedy_matches(sample, one)
        fitted = cross_fitted(sample, one, matches)
        bootstrap = Bootstrap(sample, resamples, trial)
        for kind, calibration in (("before", Calibration(fitted.whole)), ("now", fitted)):
            first, second = (bootstrap.samples(found, calibration) for found in (one, other))
            for metric in KEYS:
                change = second.overall[metric] - first.overall[metric]
                interval = former(change) if kind == "before" else current(change)
                true = exact.change(metric, calibration.folds or (calibration.whole,))
                inside[metric, kind] += interval[0] <= true <= interval[1]
                low[metric, kind] += interval[1] < 0
                high[metric, kind] += interval[0] > 0
    print(f"{population.name}: {trials} studies of {images} images, of a population of {total}")
    print(f"  {'':16}{'interval holds the truth':>28}{'starred as loss':>22}{'as gain':>18}")
    for metric in KEYS:
        columns = [
            f"{100 * found[metric, 'before'] / trials:5.1f} -> "
            f"{100 * found[metric, 'now'] / trials:4.1f} %"
            for found in (inside, low, high)
        ]
        print(f"  {metric:16}{columns[0]:>28}{columns[1]:>22}{columns[2]:>18}", flush=True)


def former(change: Sampled) -> tuple[float, float]:
    half = norm.ppf(0.975) * np.nanstd(change.resampled, ddof=1)
    return change.value - half, change.value + half


def current(change: Sampled) -> tuple[float, float]:
    test = held_against_chance(change)
    assert test is not None
    return change.value - test.half, change.value + test.half


class _Truth:
    """The population's changes; those of F1 and GIoU by threshold, to three digits."""

    def __init__(self, population: Population) -> None:
        self._null = population.name == "null"
        self._truth, self._pair = population.truth, population.pair
        self._matches = [greedy_matches(self._truth, one) for one in self._pair]
        before, after = (evaluate(self._truth, one).overall for one in self._pair)
        self._ap = {key: (after[key] or 0.0) - (before[key] or 0.0) for key in ("AP", "AP50")}
        self._known: dict[float, dict[str, float]] = {}

    def change(self, metric: str, thresholds: Sequence[float]) -> float:
        if self._null:
            return 0.0
        if metric in self._ap:
            return self._ap[metric]
        return float(np.mean([self._at(round(one, 3))[metric] for one in thresholds]))

    def _at(self, cut: float) -> dict[str, float]:
        if cut not in self._known:
            f1 = [f1_at(one, cut).f1 for one in self._matches]
            giou = [
                matched_giou(self._truth, hungarian_pairs(self._truth, one, cut)).penalized_mean
                for one in self._pair
            ]
            self._known[cut] = {"f1_calibrated": f1[1] - f1[0], "giou_penalized": giou[1] - giou[0]}
        return self._known[cut]


def populations(shared: Path) -> list[Population]:
    folder = shared / "detections/voc2007_test"
    against = read_annotations(folder / "instances_voc2007_test.json.gz")
    a, b = (
        read_dump(folder / name, against)[0]
        for name in ("yolov2_a/coco_results.json.gz", "yolov2_b")
    )
    source = np.random.default_rng(5).permutation(len(against.truth.image_ids))[:500]
    voc = Population("voc", *take(against.truth, (a, b), np.sort(source)))
    against = read_annotations(shared / "coco/annotations/instances_val2017.json")
    path = shared / "detections/deimv2_coco/detections_val2017_deimv2_atto_results.json"
    found, _ = read_dump(path, against)
    truth, (found, _) = take(against.truth, (found, found), np.unique(found.image))
    return [
        voc,
        Population("coco", truth, (found, shaken(found, 1))),
        Population(
            "null", truth, (found, found),
            lambda pair, seed: (shaken(pair[0], 2 * seed), shaken(pair[1], 2 * seed + 1)),
        ),
    ]  # fmt: skip


def shaken(found: Detections, seed: int) -> Detections:
    rng = np.random.default_rng([3, seed])
    boxes = found.boxes + rng.normal(0, 3, found.boxes.shape)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    scores = np.clip(found.scores + rng.normal(0, 0.05, len(found)), 0, 1)
    return Detections(found.image, boxes, scores, found.labels)


def take(truth: GroundTruth, pair: Pair, source: np.ndarray) -> tuple[GroundTruth, Pair]:
    """The images of some places, as images of their own where one is taken twice."""
    images = np.arange(len(source))
    objects = _rows(truth.image, source)
    chosen = np.concatenate(objects)
    sample = GroundTruth(
        image_ids=images,
        widths=truth.widths[source],
        heights=truth.heights[source],
        image=np.repeat(images, [len(one) for one in objects]),
        boxes=truth.boxes[chosen],
        labels=truth.labels[chosen],
        ignore=truth.ignore[chosen],
        areas=truth.areas[chosen],
        ids=np.arange(len(chosen)) + 1,
        classes=truth.classes,
        category_ids=truth.category_ids,
    )
    one, other = (_taken(found, source) for found in pair)
    return sample, (one, other)


def _taken(found: Detections, source: np.ndarray) -> Detections:
    rows = _rows(found.image, source)
    chosen = np.concatenate(rows)
    image = np.repeat(np.arange(len(source)), [len(one) for one in rows])
    return Detections(image, found.boxes[chosen], found.scores[chosen], found.labels[chosen])


def _rows(image: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(image, kind="stable")
    bounds = np.searchsorted(image[order], np.arange(source.max() + 2))
    return [order[bounds[i] : bounds[i + 1]] for i in source]


if __name__ == "__main__":
    main()

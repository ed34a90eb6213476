"""How often intervals hold the truth, and stars are false: today's test against the former one.

    python benchmarks/coverage.py [--quick] [--shared ../shared/data] [--trials 500]
                                  [--resamples 500] [--images 50,100] [--only family,races]
                                  [--kept runs/coverage]

A population of images is sampled, with replacement, again and again; each sample is a study, and
the truth is what the whole population says of what the study asked for: AP of the classes that its
images show, F1 and GIoU at the thresholds that it used. (AP of all classes of the population, those
that a study never sees included, has a row of its own: no test can know of them.)

* ``voc``: 500 photographs of VOC2007's test set, two published detectors.
* ``coco``: COCO's photographs with the detections of DEIMv2-Atto; the variant is the same with
  boxes and scores shaken.
* ``null``: the same photographs; baseline and variant are two such shaken copies, drawn anew for
  each study, so that every true change is 0. Losses and gains are counted apart.
* ``family``: studies of 24 variants on 206 images, each change the mean of what the images say, by
  the whole test: bootstrap, jackknife, Student's t, adjustment. No detector, no AP: every image's
  part is drawn, from several distributions of mean 0. Any star is false; how many of changes of
  4.2 standard errors get one is told beside it.
* ``races``: the same of 24 variants that are looked at as a race looks at them, on up to 2,060
  images, whose parts are normal: all changes 0 (any star is false), or all at the margin exactly
  (any verdict but "undecided" is wrong).
* ``verdicts``: studies of 24 variants whose true changes are known; how often any verdict of a
  study is wrong (free of what is beyond the margin, costs or gains of what is within), and which
  share of variants is decided with so many images.

``before`` is the normal interval with the bootstrap's standard error, with the threshold of F1
chosen on the very images that are compared; Holm's adjustment. The populations' files are not part
of this repository: without them only what is drawn is run. ``--quick`` is one size and fewer
studies. ``--kept`` keeps every study of ``coverage`` in a folder, to go on from there.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.calibration import Calibration, cross_fitted
from ablate_kit.metrics.detection_files import read_dump
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.f1 import f1_at
from ablate_kit.metrics.giou import matched_giou
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.matching import greedy_matches, hungarian_pairs
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import AgainstChance, held_against_chance
from ablate_kit.metrics.uncertainty.multiplicity import holm, max_t
from ablate_kit.metrics.uncertainty.raced import StepDown, half_width
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict, verdicts
from ablate_kit.models.annotations import read_annotations

Pair = tuple[Detections, Detections]


@dataclass(frozen=True)
class Population:
    name: str
    truth: GroundTruth
    pair: Pair
    renew: Callable[[Pair, int], Pair] = lambda pair, _: pair


PARTS = ("family", "races", "verdicts", "coverage")


def main() -> None:
    sys.path.remove(str(Path(__file__).parent))  # numba would take this file for the package
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50 images, 60 studies of each kind")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--images", default="50,100")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--kept", type=Path, help="a folder that keeps what is finished")
    options = parser.parse_args()
    asked = options.only.split(",")
    if not set(asked) <= set(PARTS):
        parser.error(f"--only {options.only}: expected some of {','.join(PARTS)}")
    trials = 60 if options.quick else options.trials
    sizes = [50] if options.quick else [int(one) for one in options.images.split(",")]
    studies = 1000 if options.quick else 10_000
    if "family" in asked:
        family(studies)
    if "races" in asked:
        races(studies)
    if "verdicts" in asked:
        verdict_errors(studies)
        verdict_power(studies // 5)
    if "coverage" not in asked:
        return
    if not (options.shared / "detections").is_dir():
        print(f"{options.shared}: no detections there, so coverage is not simulated")
        return
    for population in populations(options.shared):
        for images in sizes:
            coverage(population, images, trials, options.resamples, options.kept)


MARGIN, VARIANTS = 0.01, 24
CHANCE = 0.09  # deviation of an image's part in a change of AP, as 206 photographs of COCO have it
SEEN = 206  # images of a study


def _normal(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.normal(0, 1, size)


def _together(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.sqrt(0.5) * (rng.normal(0, 1, size[1]) + rng.normal(0, 1, size))


def _heavy(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return rng.standard_t(3, size)


def _few(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.where(rng.random(size) < 5 / SEEN, rng.standard_t(3, size), 0.0)


def _losses(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    lost = rng.random(size) < 0.05
    return np.where(lost, -1.0, 0.05 / 0.95) * rng.exponential(1, size)


IMAGES_SAY = {
    "normal": _normal,
    "normal, half of it shared by all variants": _together,
    "heavy tails (Student's t, 3 degrees of freedom)": _heavy,
    "five images change, the others do not": _few,
    "one image in twenty loses much, the others gain little": _losses,
}


def family(studies: int) -> None:
    """Chance of any false star among 24 variants, none of which changes anything; and of a star."""
    resamples, changed, power = 1000, 2, 1000
    left = left_out(SEEN, 200, 0).astype(float)
    for number, (what, say) in enumerate(IMAGES_SAY.items()):
        rng = np.random.default_rng([1, number])
        false, right = {"now": 0, "Holm": 0}, {"now": 0, "Holm": 0}
        for study in range(studies):
            if study % 100 == 0:
                drawn = draws(SEEN, resamples, study)[:, 1:].astype(float)
            said = say(rng, (VARIANTS, SEEN))
            for found in _starred(said, drawn, left):
                false[found[0]] += any(found[1])
            if study < power:
                said[:changed] += 4.2 * said[:changed].std(axis=1, keepdims=True) / np.sqrt(SEEN)
                for found in _starred(said, drawn, left):
                    right[found[0]] += sum(found[1][:changed])
        rates = "  ".join(
            f"{one} {100 * false[one] / studies:4.2f} % (power "
            f"{100 * right[one] / changed / min(power, studies):.0f} %)"
            for one in false
        )
        print(f"family: any false star of {VARIANTS}; images' parts: {what}: {rates} "
              f"({studies:,} studies)", flush=True)  # fmt: skip


def _starred(
    said: np.ndarray, drawn: np.ndarray, left: np.ndarray
) -> Iterator[tuple[str, list[bool]]]:
    """Which variants have a star, by adjustment; ``said``: (variants, images) of their changes."""
    resampled, rest = said @ drawn / SEEN, (said @ left) / left.sum(axis=0)
    found = [
        held_against_chance(Sampled(float(value), one, other, SEEN, False))
        for value, one, other in zip(said.mean(axis=1), resampled, rest, strict=True)
    ]
    known = [one for one in found if one is not None]
    for name, adjusted in (("now", max_t(known)), ("Holm", holm([one.p for one in known]))):
        values = iter(adjusted)
        yield name, [one is not None and (next(values) or 0) < 0.05 for one in found]


LOOKS = Looks((104, 152, 232, 344, 512, 760, 1144, 2060), VARIANTS, futility=0.2)


def races(studies: int) -> None:
    """Chance of anything false in a race, of normal parts: with their sums and sums of squares."""
    far = np.where(np.arange(VARIANTS) % 2, -MARGIN, -3 * MARGIN)
    for what, true in (
        ("0", np.zeros(VARIANTS)),
        ("the margin", np.full(VARIANTS, -MARGIN)),
        ("the margin, every other one far beyond", far),
    ):
        for alike in (0.0, 0.9):
            rng = np.random.default_rng([6, int(-100 * true.sum()), int(10 * alike)])
            found = np.array([_race(rng, true, alike) for _ in range(studies)])
            star, wrong, passes = found.mean(axis=0)
            told = f"verdict {100 * wrong:4.2f} %"
            if not true.any():
                told = f"star {100 * star:4.2f} %, {told}"
            print(f"races: any wrong of {VARIANTS}, true {what}, correlation {alike}: {told}; "
                  f"{1 / passes:.1f} times fewer passes ({studies:,} studies, {len(LOOKS.images)} "
                  "looks)", flush=True)  # fmt: skip


def _race(rng: np.random.Generator, true: np.ndarray, alike: float) -> tuple[bool, bool, float]:
    """Whether a race has any false star, and any wrong verdict; and its share of all passes."""
    total, squares, seen = np.zeros(VARIANTS), np.zeros(VARIANTS), 0
    running, star, wrong = np.ones(VARIANTS, dtype=bool), False, False
    passes, step_down = 0, StepDown(LOOKS, map(str, range(VARIANTS)))
    for images in LOOKS.images:
        new = images - seen
        part = np.sqrt(alike) * rng.normal() + np.sqrt(1 - alike) * rng.normal(0, 1, VARIANTS)
        part *= np.sqrt(new)  # of what the new images say, summed
        squares += part**2 / new + rng.chisquare(new - 1, VARIANTS)
        total += part
        seen = images
        passes += new * int(running.sum())
        error = np.sqrt((squares - total**2 / seen) / (seen - 1) / seen) * CHANCE
        levels, stopped = step_down.levels(images), dict[str, Outcome]()
        for i in np.flatnonzero(running):
            change = float(true[i]) + float(total[i]) / seen * CHANCE
            test = AgainstChance(change, float(error[i]), seen - 1.0, np.zeros(0))
            outcome = step_down.come_to(test, images, MARGIN)
            if outcome is None:
                continue
            running[i] = False
            stopped[str(i)] = outcome
            star |= abs(change - float(true[i])) > half_width(test, levels.stars)
            wrong |= _is_wrong(Verdict(outcome, MARGIN), float(true[i]) + 1e-12) or (
                _is_wrong(Verdict(outcome, MARGIN), float(true[i]) - 1e-12)
            )
        step_down.settle(stopped)
    return star, wrong, passes / LOOKS.images[-1] / VARIANTS


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


def coverage(
    population: Population, images: int, trials: int, resamples: int, kept: Path | None = None
) -> None:
    exact = _Truth(population)
    path = kept / f"{population.name}-{images}-{resamples}.jsonl" if kept else None
    known = path.read_text().splitlines() if path and path.exists() else []
    studies = [json.loads(one) for one in known[:trials]]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    for trial in range(len(studies), trials):
        studies.append(_study(population, exact, images, resamples, trial))
        if path:
            with path.open("a") as file:
                file.write(json.dumps(studies[-1]) + "\n")
    total = len(population.truth.image_ids)
    print(f"{population.name}: {trials} studies of {images} images, of a population of {total}")
    print(f"  {'':16}{'interval holds the truth':>28}{'starred as loss':>22}{'as gain':>18}")
    for metric in (*KEYS, *_ALL):
        rows = [[study[metric][kind] for study in studies] for kind in ("before", "now")]
        before, now = (np.array(one, dtype=bool).mean(axis=0) * 100 for one in rows)
        columns = [f"{one:5.1f} -> {two:4.1f} %" for one, two in zip(before, now, strict=True)]
        print(f"  {metric:16}{columns[0]:>28}{columns[1]:>22}{columns[2]:>18}", flush=True)


_ALL = ("AP, all classes", "AP50, all classes")

Study = dict[str, dict[str, tuple[bool, bool, bool]]]


def _study(
    population: Population, exact: "_Truth", images: int, resamples: int, trial: int
) -> Study:
    """By metric, of before and now: whether the interval holds the truth, lies below 0, above."""
    rng = np.random.default_rng([2, images, trial])
    source = np.sort(rng.integers(0, len(population.truth.image_ids), images))
    sample, drawn = take(population.truth, population.pair, source)
    one, other = population.renew(drawn, trial)
    fitted = cross_fitted(sample, one, greedy_matches(sample, one))
    bootstrap = Bootstrap(sample, resamples, trial)
    found: Study = {metric: {} for metric in (*KEYS, *_ALL)}
    for kind, calibration in (("before", Calibration(fitted.whole)), ("now", fitted)):
        first, second = (
            bootstrap.samples(one, calibration, per_class=False) for one in (one, other)
        )
        for metric in found:
            key = metric.removesuffix(", all classes")
            change = second.overall[key] - first.overall[key]
            low, high = former(change) if kind == "before" else current(change)
            classes = None if metric in _ALL else bootstrap.classes
            true = exact.change(key, calibration.folds or (calibration.whole,), classes)
            found[metric][kind] = bool(low <= true <= high), bool(high < 0), bool(low > 0)
    return found


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
        before, after = (average_precision(self._truth, one) for one in self._pair)
        self._ap = {"AP": after.ap - before.ap, "AP50": after.ap50 - before.ap50}
        self._known: dict[float, dict[str, float]] = {}

    def change(self, metric: str, thresholds: Sequence[float], classes: np.ndarray | None) -> float:
        """Of AP that of some classes, or of all."""
        if self._null:
            return 0.0
        if metric in self._ap:
            of_class = self._ap[metric]
            return float(np.nanmean(of_class if classes is None else of_class[classes]))
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

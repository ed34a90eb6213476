"""How often intervals hold the truth, and stars are false: today's test against the former one.

    python benchmarks/interval_coverage.py [--quick] [--shared ../shared/data] [--trials 500]
                                           [--resamples 500] [--images 50,100]
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

``before`` is the normal interval with the bootstrap's standard error, with the threshold of F1
chosen on the very images that are compared; Holm's adjustment. The populations' files are not part
of this repository. ``--quick`` is one size and fewer studies. ``--kept`` keeps every study in a
folder, to go on from there.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from chosen_images import take
from populations import Population, populations
from scipy.stats import norm

from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.calibration import Calibration, cross_fitted
from ablate_kit.metrics.f1 import f1_at
from ablate_kit.metrics.giou import matched_giou
from ablate_kit.metrics.headline import KEYS
from ablate_kit.metrics.matching import greedy_matches, hungarian_pairs
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap, Sampled
from ablate_kit.metrics.uncertainty.chance import paired_test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50 images, 60 studies")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--images", default="50,100")
    parser.add_argument("--kept", type=Path, help="a folder that keeps what is finished")
    options = parser.parse_args()
    if not (options.shared / "detections").is_dir():
        parser.error(f"{options.shared}: no detections there, so coverage is not simulated")
    trials = 60 if options.quick else options.trials
    sizes = [50] if options.quick else [int(one) for one in options.images.split(",")]
    for population in populations(options.shared):
        for images in sizes:
            coverage(population, images, trials, options.resamples, options.kept)


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
        before, now = (np.nanmean(np.array(one, dtype=float), axis=0) * 100 for one in rows)
        columns = [f"{one:5.1f} -> {two:4.1f} %" for one, two in zip(before, now, strict=True)]
        none = sum(holds is None for holds, *_ in rows[1])
        alike = f"  {100 * none / trials:.1f} % without an interval" if none else ""
        print(f"  {metric:16}{columns[0]:>28}{columns[1]:>22}{columns[2]:>18}{alike}", flush=True)


_ALL = ("AP, all classes", "AP50, all classes")

Study = dict[str, dict[str, tuple[bool | None, bool, bool]]]


def _study(
    population: Population, exact: "_Truth", images: int, resamples: int, trial: int
) -> Study:
    """By metric, of before and now: whether the interval holds the truth, lies below 0, above; None
    where all images show the same change, and there is none."""
    rng = np.random.default_rng([2, images, trial])
    source = np.sort(rng.integers(0, len(population.truth.image_ids), images))
    sample, (one, other) = take(population.truth, population.pair, source)
    one, other = population.renew((one, other), trial)
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
            if low is None or high is None:
                found[metric][kind] = None, False, False
            else:
                found[metric][kind] = bool(low <= true <= high), bool(high < 0), bool(low > 0)
    return found


def former(change: Sampled) -> tuple[float, float]:
    half = norm.ppf(0.975) * np.nanstd(change.resampled, ddof=1)
    return change.value - half, change.value + half


def current(change: Sampled) -> tuple[float, float] | tuple[None, None]:
    test = paired_test(change)
    return (None, None) if test is None else test.ends()


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


if __name__ == "__main__":
    main()

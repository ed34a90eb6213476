"""How often the interval of one class's change of AP holds the truth, by how many images show it.

    python benchmarks/class_coverage.py [--shared ../shared/data] [--trials 150] [--images 50,100]

Studies are drawn from the populations of ``interval_coverage``, and of VOC2007's whole test set;
the truth is what the whole population says of the class. Told apart are classes on one image, which
get no interval; those which all images of a study change alike, such as not at all, which get none,
either; and all others. ``alike, as a point`` is the share of the second for which an interval from
the change to itself would hold the truth. The populations' files are not part of this repository.
"""

import argparse
from pathlib import Path

import numpy as np
from chosen_images import take
from populations import Population, populations, voc_test

from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap
from ablate_kit.metrics.uncertainty.chance import paired_test

SHOWN = ((2, 2), (3, 3), (4, 5), (6, 10), (11, 20), (21, 10**6))
_EQUAL = 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--trials", type=int, default=150)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--images", default="50,100")
    options = parser.parse_args()
    if not (options.shared / "detections").is_dir():
        parser.error(f"{options.shared}: no detections there, so coverage is not simulated")
    truth, pair = voc_test(options.shared)
    whole = Population("voc, all 4952", truth, pair)
    for population in (whole, *populations(options.shared)[1:]):
        for images in map(int, options.images.split(",")):
            coverage(population, images, options.trials, options.resamples)


def coverage(population: Population, images: int, trials: int, resamples: int) -> None:
    before, after = (average_precision(population.truth, one).ap for one in population.pair)
    true = np.zeros(len(before)) if population.name == "null" else after - before
    rows = []  # how many images show the class, whether it has an interval, what holds the truth
    for trial in range(trials):
        rng = np.random.default_rng([2, images, trial])
        source = np.sort(rng.integers(0, len(population.truth.image_ids), images))
        sample, (one, other) = take(population.truth, population.pair, source)
        pair = population.renew((one, other), trial)
        bootstrap = Bootstrap(sample, resamples, trial)
        first, second = (bootstrap.samples(found, 0.3).ap_per_class for found in pair)
        for label, own, then in zip(bootstrap.classes, first, second, strict=True):
            change, truth = then - own, true[label]
            test = paired_test(change)
            low, high = (None, None) if test is None else test.ends()
            if low is None or high is None:
                rows.append((change.images, 0, abs(change.value - truth) < _EQUAL))
            else:
                rows.append((change.images, 1, low - _EQUAL <= truth <= high + _EQUAL))
    found = np.array(rows, dtype=float)
    print(f"{population.name}: {trials} studies of {images} images")
    print(f"  {'images':>8}{'classes':>9}{'alike':>9}{'alike, as a point':>20}{'holds':>9}")
    for least, most in SHOWN:
        here = found[(found[:, 0] >= least) & (found[:, 0] <= most)]
        if not len(here):
            continue
        alike, told = here[here[:, 1] == 0], here[here[:, 1] == 1]
        shown = f"{least}" if least == most else f"{least}-{most}" if most < images else f"{least}+"
        point = f"{100 * alike[:, 2].mean():.1f} %" if len(alike) else "-"
        print(f"  {shown:>8}{len(here):>9,}{100 * len(alike) / len(here):>7.1f} %{point:>20}"
              f"{100 * told[:, 2].mean():>7.1f} %", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

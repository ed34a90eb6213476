"""How much too high AP is on few images, and a change of AP between two detectors on the same ones.

    python benchmarks/few_images.py [--quick] [--shared ../shared/data] [--studies 200]

Studies of 50 to 300 images are drawn, with replacement, from the populations of
``interval_coverage``; each is held against what its population says of the classes that the study
shows. ``without one image`` is the jackknife's estimate of what is too much, from the study alone.
The populations' files are not part of this repository.
"""

import argparse
from pathlib import Path

import numpy as np
from chosen_images import take
from populations import Population, populations

from ablate_kit.metrics.average_precision import average_precision
from ablate_kit.metrics.uncertainty.bootstrap import Bootstrap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 studies")
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--studies", type=int, default=200)
    options = parser.parse_args()
    if not (options.shared / "detections").is_dir():
        parser.error(f"{options.shared}: no detections there, so nothing can be drawn")
    print(f"{'':6}{'images':>7}{'AP':>9}{'too high':>10}{'change':>9}{'too high':>10}", end="")
    print(f"{'without one image':>19}")
    for population in populations(options.shared)[:2]:
        for images in (50, 100, 300):
            row = _means(population, images, 20 if options.quick else options.studies)
            ap, over, change, over_change, told = row
            print(f"{population.name:6}{images:7}{ap:9.3f}{over:+10.3f}", end="")
            print(f"{change:+9.3f}{over_change:+10.3f}{told:+19.3f}", flush=True)


def _means(population: Population, images: int, studies: int) -> tuple[float, ...]:
    truth = population.truth
    before, after = (average_precision(truth, one).ap for one in population.pair)
    rows = []
    for study in range(studies):
        rng = np.random.default_rng([4, images, study])
        source = np.sort(rng.integers(0, len(truth.image_ids), images))
        sample, pair = take(truth, population.pair, source)
        bootstrap = Bootstrap(sample, 2, study)  # for what is left out alone
        one, other = (
            bootstrap.samples(found, 0.5, per_class=False).overall["AP"] for found in pair
        )
        shown = bootstrap.classes
        known, changed = before[shown].mean(), (after - before)[shown].mean()
        change = other.value - one.value
        less = one.left_out.mean() - one.value
        rows.append(
            (known, one.value - known, changed, change - changed, (len(one.left_out) - 1) * less)
        )
    return tuple(map(float, np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()

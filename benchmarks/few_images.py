"""How much too high AP is on few images, and a change of AP between two detectors on the same ones;
and how much too low optimal LRP is, an error whose scores are chosen on these images.

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
from ablate_kit.metrics.detections import Detections, GroundTruth
from ablate_kit.metrics.lrp import optimal_lrp
from ablate_kit.metrics.matching import greedy_matches
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
    print(f"{'without one image':>19}{'LRP':>9}{'too high':>10}{'change':>9}{'too high':>10}")
    for population in populations(options.shared)[:2]:
        for images in (50, 100, 300):
            row = _means(population, images, 20 if options.quick else options.studies)
            ap, over, change, over_change, told, lrp, more, moved, over_moved = row
            print(f"{population.name:6}{images:7}{ap:9.3f}{over:+10.3f}", end="")
            print(f"{change:+9.3f}{over_change:+10.3f}{told:+19.3f}{lrp:9.3f}{more:+10.3f}", end="")
            print(f"{moved:+9.3f}{over_moved:+10.3f}", flush=True)


def _means(population: Population, images: int, studies: int) -> tuple[float, ...]:
    truth = population.truth
    before, after = (average_precision(truth, one).ap for one in population.pair)
    errors = [_lrp(truth, one) for one in population.pair]
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
        lrp, lrp_after = (float(errors_of[shown].mean()) for errors_of in errors)
        seen, seen_after = (float(np.nanmean(_lrp(sample, found))) for found in pair)
        moved, seen_moved = lrp_after - lrp, seen_after - seen
        rows.append(
            (known, one.value - known, changed, change - changed, (len(one.left_out) - 1) * less,
             lrp, seen - lrp, moved, seen_moved - moved)
        )  # fmt: skip
    return tuple(map(float, np.mean(rows, axis=0)))


def _lrp(truth: GroundTruth, found: Detections) -> np.ndarray:
    """By class."""
    return optimal_lrp(truth, found, greedy_matches(truth, found)).error


if __name__ == "__main__":
    main()

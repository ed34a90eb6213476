"""How often the interval over clusters of unequal sizes holds the truth; no detector, no AP.

    python benchmarks/simulated_clusters.py [--studies 1500]

A metric is a mean over images, which come in clusters, such as the frames of videos: what a cluster
says of a change is normal, all of its images alike. Sizes are log-normal, of a deviation from 0
(all equal) to 1.5 (of 8 clusters, the largest holds half of all images). Then clusters say more the
larger they are, by half a standard deviation for each factor of e. Degrees of freedom are counted
as those of AP and as those of F1 and GIoU are.
"""

import argparse

import numpy as np

from ablate_kit.metrics.uncertainty.bootstrap import Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test

CLUSTERS, DEVIATIONS, RESAMPLES, TYPICAL = (5, 8, 15, 30), (0.0, 0.5, 1.0, 1.5), 400, 20


def holds(clusters: int, deviation: float, slope: float, studies: int) -> tuple[float, float]:
    """The share of studies whose interval holds the truth, if it is that of AP, and of F1."""
    rng = np.random.default_rng([1, clusters, int(10 * deviation), int(10 * slope)])
    drawn = draws(clusters, RESAMPLES, 1)[:, 1:].astype(float)
    rest = left_out(clusters, clusters, 1).astype(float)
    true, held = (
        slope * deviation**2,
        np.zeros(2),
    )  # E[size log size] / E[size] of a log-normal size
    for _ in range(studies):
        size = np.maximum(1, np.round(TYPICAL * np.exp(rng.normal(0, deviation, clusters))))
        said = rng.normal(0, 1, clusters) + slope * np.log(size / TYPICAL)
        value = float((size * said).sum() / size.sum())
        resampled, left = ((size * said) @ one / (size @ one) for one in (drawn, rest))
        for i, ratio in enumerate((False, True)):
            test = paired_test(Sampled(value, resampled, left, clusters, ratio))
            assert test is not None
            low, high = test.interval()
            held[i] += low <= true <= high
    ap, f1 = held / studies
    return float(ap), float(f1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1500)
    studies = parser.parse_args().studies
    for slope, what in ((0.0, "sizes say nothing"), (0.5, "larger clusters say more")):
        for clusters in CLUSTERS:
            found = {one: holds(clusters, one, slope, studies) for one in DEVIATIONS}
            told = [f"{one}: {ap:.1%}, {f1:.1%}" for one, (ap, f1) in found.items()]
            print(f"{what}, {clusters} clusters, by the deviation of their sizes, of AP and F1: "
                  f"{'; '.join(told)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

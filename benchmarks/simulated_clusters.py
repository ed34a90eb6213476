"""How often the interval over clusters of unequal sizes holds the truth; no detector, no AP.

    python benchmarks/simulated_clusters.py [--studies 1500]

A metric is a mean over images, which come in clusters, such as the frames of videos: what a cluster
says of a change is normal, all of its images alike. Sizes are log-normal, of a deviation from 0
(all equal) to 1.5 (of 8 clusters, the largest holds half of all images). Then clusters say more the
larger they are, by half a standard deviation for each factor of e. Last, one or two clusters hold
as many images as all others together; and what clusters say has heavy tails (Student's t with 3
degrees of freedom), or is nothing at all for three of four clusters. Degrees of freedom are counted
as those of AP and as those of F1 and GIoU are; beside them, of AP, clusters - 1.

At the end, where larger clusters say more, the same of AP by what can be seen of a study: the
deviation of the logarithms of its sizes; and whether all of its clusters tell as much as half as
many of one size.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import paired_test
from ablate_kit.metrics.uncertainty.dependent_images import freedom

CLUSTERS, DEVIATIONS, RESAMPLES, TYPICAL = (5, 8, 15, 30), (0.0, 0.5, 1.0, 1.5), 400, 20
SAID: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, count: rng.normal(0, 1, count),
    "heavy tails": lambda rng, count: rng.standard_t(3, count),
    "three of four nothing": lambda rng, count: (
        rng.normal(0, 1, count) * (rng.random(count) < 0.25)
    ),
}


def log_normal(rng: np.random.Generator, clusters: int, deviation: float) -> Floats:
    return np.maximum(1, np.round(TYPICAL * np.exp(rng.normal(0, deviation, clusters))))


def dominated(_: np.random.Generator, clusters: int, few: float) -> Floats:
    size = np.full(clusters, float(TYPICAL))
    size[: int(few)] *= (clusters - few) / few
    return np.round(size)


Sizes = Callable[[np.random.Generator, int, float], Floats]


def holds(
    sizes: Sizes, clusters: int, unequal: float, slope: float, said: str, studies: int
) -> str:
    """The share of studies whose interval holds the truth: that of AP, of F1, and with as many
    degrees of freedom as there are clusters, less one."""
    found = simulated(sizes, clusters, unequal, slope, said, studies)
    ap, f1, before = np.mean([held for *_, held in found], axis=0)
    return f"{ap:.1%}, {f1:.1%} ({before:.1%})"


def simulated(
    sizes: Sizes, clusters: int, unequal: float, slope: float, said: str, studies: int
) -> Iterator[tuple[Floats, float, list[bool]]]:
    """Of each study the sizes, the degrees of freedom, and whether each of the three intervals
    holds the truth."""
    rng = np.random.default_rng([1, clusters, int(10 * unequal), int(10 * slope), len(said)])
    drawn = draws(clusters, RESAMPLES, 1)[:, 1:].astype(float)
    rest = left_out(clusters, clusters, 1).astype(float)
    true = slope * unequal**2  # E[size log size] / E[size] of a log-normal size
    for _ in range(studies):
        size = sizes(rng, clusters, unequal)
        value = SAID[said](rng, clusters) + slope * np.log(size / TYPICAL)
        told = float((size * value).sum() / size.sum())
        resampled, left = ((size * value) @ one / (size @ one) for one in (drawn, rest))
        own = freedom(size.astype(np.int64))
        held = []
        for ratio, count in ((False, own), (True, own), (False, clusters - 1.0)):
            test = paired_test(Sampled(told, resampled, left, clusters, ratio, freedom=count))
            low, high = test.interval() if test else (-np.inf, np.inf)
            held.append(low <= true <= high)
        yield size, own, held


def by_what_is_seen(studies: int) -> None:
    found = [
        (np.log(size).std(ddof=1), 2 * (own + 1) < clusters, held[0], held[2])
        for clusters in (8, 15, 30, 60, 150)
        for deviation in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
        for size, own, held in simulated(log_normal, clusters, deviation, 0.5, "normal", studies)
    ]
    spread, unequal, held, before = np.array(found, dtype=float).T
    groups = {
        f"deviation {low:g} to {high:g}": (low <= spread) & (spread < high)
        for low, high in pairwise((0, 0.75, 1, 1.25, 1.5, 3))
    }
    groups |= {"as half or more of one size": unequal == 0, "as fewer": unequal == 1}
    told = ", ".join(
        f"{what}: {held[inside].mean():.1%} ({before[inside].mean():.1%}, {inside.sum():,} studies)"
        for what, inside in groups.items()
    )
    print(f"larger clusters say more, by what is seen: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1500)
    studies = parser.parse_args().studies
    print(f"AP, F1 (AP with clusters - 1); standard error of 95 %: {(0.0475 / studies) ** 0.5:.1%}")
    for slope, what in ((0.0, "sizes say nothing"), (0.5, "larger clusters say more")):
        for clusters in CLUSTERS:
            told = [
                f"{one}: {holds(log_normal, clusters, one, slope, 'normal', studies)}"
                for one in DEVIATIONS
            ]
            print(f"{what}, {clusters} clusters, by the deviation of their sizes: "
                  f"{'; '.join(told)}", flush=True)  # fmt: skip
    for said in SAID:
        for clusters in CLUSTERS:
            told = [f"{few}: {holds(dominated, clusters, few, 0, said, studies)}" for few in (1, 2)]
            print(f"half of all images in a few of {clusters} clusters, {said}: "
                  f"{'; '.join(told)}", flush=True)  # fmt: skip
    by_what_is_seen(studies // 3)


if __name__ == "__main__":
    main()

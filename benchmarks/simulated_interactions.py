"""How often what is said of joint cuts is wrong: interactions, Shapley values, shares of a donor.

    python benchmarks/simulated_interactions.py [--studies 1000]

*Interactions.* All pairs of 8 or 24 parts that cost something, and nothing beyond that: what each
image says of a pair is chance. Told is the share of studies with any star, by the number of images
and by what images say; and where four pairs do interact, by 4.2 standard errors, how many of these
get a star, and by how many standard errors the strongest, which a sentence names first, is too
large.

*Shapley values* of 8 parts that change nothing, by 16 permutations: the share of studies with any
star after Holm's adjustment.

*Shares.* A module brings half of what the donor does: of the studies in which both are significant,
how many tell a share that is off by more than 20 points, by how many standard errors the donor's
change is.
"""

import argparse
from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np

from ablate_kit.ablations.kinds.shapley import permutations
from ablate_kit.metrics.uncertainty.bootstrap import Floats, Sampled, Samples, draws, left_out
from ablate_kit.metrics.uncertainty.multiplicity import holm
from ablate_kit.metrics.uncertainty.repeats import average, combined
from ablate_kit.metrics.uncertainty.significance import interactions

RESAMPLES, REAL, FOUND = 1000, 4, 4.2
COST = -0.05

Says = Callable[[np.random.Generator, int], Floats]
SAYS: dict[str, Says] = {
    "normal": lambda rng, images: rng.normal(0, 1, images),
    "heavy tails (Student's t, 3)": lambda rng, images: rng.standard_t(3, images),
    "some lose much (exponential)": lambda rng, images: 1 - rng.exponential(1, images),
    "nine of ten images nothing": lambda rng, images: (
        rng.normal(0, 1, images) * (rng.random(images) < 0.1)
    ),
}


class Study:
    """Images, their resamples, and means over them as samples of AP."""

    def __init__(self, images: int, seed: int) -> None:
        self.images = images
        self._drawn = draws(images, RESAMPLES, seed)[:, 1:] / images
        groups = min(images, 200)
        rest = left_out(images, groups, seed).astype(float)
        self._rest = rest / rest.sum(axis=0)

    def sampled(self, said: Floats) -> Sampled:
        return Sampled(
            float(said.mean()), said @ self._drawn, said @ self._rest, self.images, ratio=False
        )

    def samples(self, said: Floats) -> Samples:
        return Samples({"AP": self.sampled(said)}, ())


def pairs(studies: int) -> None:
    for parts, images in ((8, 40), (8, 206), (24, 206)):
        for number, (what, says) in enumerate(SAYS.items()):
            rng = np.random.default_rng([1, parts, images, number])
            false, named, too_large = 0, 0, list[float]()
            count = studies if parts == 8 else studies // 5
            for study in range(count):
                if study % 50 == 0:
                    made = Study(images, study)
                _, errors, stars = _pairs(rng, made, parts, says, 0.0)
                false += any(stars)
                found, errors, stars = _pairs(rng, made, parts, says, -FOUND / images**0.5)
                named += sum(stars[:REAL])
                if any(stars):
                    strongest = max(range(len(found)), key=lambda i: abs(found[i]) * stars[i])
                    true = -FOUND / images**0.5 if strongest < REAL else 0.0
                    size = abs(found[strongest]) - abs(true)
                    too_large.append(size / errors[strongest])
            got = 100 * named / REAL / count
            print(f"pairs of {parts} parts on {images} images, {what}: any false star "
                  f"{100 * false / count:.1f} %; of {REAL} that interact {got:.0f} % get one, the "
                  f"strongest too large by {np.mean(too_large):.1f} standard errors "
                  f"({count:,} studies)", flush=True)  # fmt: skip


def _pairs(
    rng: np.random.Generator, made: Study, parts: int, says: Says, beyond: float
) -> tuple[list[float], list[float], list[bool]]:
    """Of all pairs the interaction, its error, and whether it has a star; the first interact."""
    base = rng.normal(0.5, 1, made.images)
    own = [base + COST + rng.normal(0, 1, made.images) for _ in range(parts)]
    joint, members = [], []
    for number, (a, b) in enumerate(combinations(range(parts), 2)):
        chance = says(rng, made.images) + (beyond if number < REAL else 0.0)
        joint.append(made.samples(own[a] + own[b] - base + chance))
        members.append([a, b])
    alone = [made.samples(one) for one in own]
    rows = interactions(made.samples(base), joint, [[alone[i] for i in two] for two in members])
    ap = [row["AP"] for row in rows]
    return (
        [one.change or 0.0 for one in ap],
        [one.error or np.inf for one in ap],
        [one.significant for one in ap],
    )


def shapley(studies: int, parts: int = 8) -> None:
    for number, (what, says) in enumerate(SAYS.items()):
        rng = np.random.default_rng([2, number])
        false = 0
        for study in range(studies):
            if study % 50 == 0:
                made = Study(60, study)
            own = [says(rng, 60) for _ in range(parts)]
            known: dict[frozenset[int], Sampled] = {}
            steps: dict[int, list[tuple[Sampled, Sampled]]] = {part: [] for part in range(parts)}
            for order in permutations(parts, 16, study):
                ends = [frozenset(order[:size]) for size in range(parts + 1)]
                for cut in ends:
                    if cut not in known:
                        chance = 0.3 * says(rng, 60) * bool(cut)
                        said = sum((own[part] for part in cut), chance)
                        known[cut] = made.sampled(np.asarray(said))
                for part, (before, after) in zip(order, pairwise(ends), strict=True):
                    steps[part].append((known[before], known[after]))
            p = []
            for found in steps.values():
                twos = [
                    tuple(average([found[i][end], found[i + 1][end]]) for end in (0, 1))
                    for i in range(0, len(found), 2)
                ]
                p.append(combined([(before, after) for before, after in twos]).p)
            false += any(one is not None and one < 0.05 for one in holm(p))
        print(f"Shapley values of {parts} parts that change nothing, {what}: any star "
              f"{100 * false / studies:.1f} % ({studies:,} studies)", flush=True)  # fmt: skip


def shares(studies: int) -> None:
    rng = np.random.default_rng(3)
    for errors in (2.5, 3, 4, 6, 8, 10):
        told = []
        for alike in (0.3, 0.8):
            chance = rng.multivariate_normal([0, 0], [[1, alike], [alike, 1]], 100 * studies)
            whole, part = errors + chance[:, 0], errors / 2 + 0.7 * chance[:, 1]
            both = (whole > 1.96) & (part > 1.96 * 0.7)
            off = np.abs(part[both] / whole[both] - 0.5) > 0.2
            told.append(f"{100 * off.mean():.0f} % (correlation {alike})")
        print(f"a share of a donor's change of {errors} standard errors is off by more than 20 "
              f"points: {', '.join(told)}", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    shares(studies)
    shapley(studies // 2)
    pairs(studies)

"""How often the largest joint cut that is found free is not, on the images that ranked its parts.

    python benchmarks/simulated_joint_cuts.py [--studies 400]

Studies of 24 parts whose true changes are equal, or exponential, and add up, with normal chance,
some of it shared by all parts. Those that look free are cut at once: all of them, and the first 1,
2, 3 ... of them, those first that cost least, as ``ablate shrink --free --largest`` does, on the
same images or on as many others.

Then a greedy search: in each of 12 rounds every part that is left is tried on top of those that are
gone, and the one that costs least goes. Told is how often any of its steps has a false star for a
gain, how often the last step that is free is not, and by how much the step that looks best is too
high.
"""

import argparse

import numpy as np
from simulated_studies import MARGIN, VARIANTS, is_wrong

from ablate_kit.metrics.uncertainty.chance import PairedTest
from ablate_kit.metrics.uncertainty.multiplicity import max_t
from ablate_kit.metrics.uncertainty.verdict import verdicts

IMAGES, RESAMPLES = 1000, 500
ERROR = MARGIN / 10  # of the change of one part
STEPS = 12

Cut = tuple[float, PairedTest]  # its true change, and what is seen of it


def simulate(studies: int) -> None:
    print("studies in which what is found free is not, by what each part costs (of the margin)")
    for share in (0.0, 0.3):
        for part in (0.05, 0.1, 0.2):
            rng = np.random.default_rng([7, int(10 * share), int(100 * part)])
            equal = [_study(rng, np.full(VARIANTS, part), share) for _ in range(studies)]
            unequal = [
                _study(rng, part * rng.exponential(1, VARIANTS), share) for _ in range(studies)
            ]
            for what, found in (("each", equal), ("on average", unequal)):
                same, others, every, high = np.mean(found, axis=0)
                print(f"  {part:4} of the margin {what}, {share:.0%} of chance shared: largest "
                      f"{same:.1%}, its change too high by {high:.1f} standard errors; largest on "
                      f"other images {others:.1%}; all that look free {every:.1%}",
                      flush=True)  # fmt: skip


def _study(
    rng: np.random.Generator, cost: np.ndarray, share: float
) -> tuple[bool, bool, bool, float]:
    """``cost``: of each part, of the margin."""
    true = -cost * MARGIN
    here, there = (_chance(rng, share) for _ in range(2))
    alone = true + here[:, 0]
    order = np.argsort(-alone)
    order = order[np.abs(alone[order]) + 1.96 * ERROR < MARGIN]
    if not len(order):
        return False, False, False, 0.0
    sums = np.cumsum(true[order]).round(12)  # ten tenths of the margin are the margin
    same, others = (_cuts(sums, np.cumsum(chance[order], axis=0)) for chance in (here, there))
    wrong, last = _largest_is_wrong(same)
    high = (last[1].change - last[0]) / last[1].error if last else 0.0
    return wrong, _largest_is_wrong(others)[0], _largest_is_wrong(same[-1:])[0], high


def search(studies: int) -> None:
    print(f"greedy searches: {STEPS} of {VARIANTS} parts")
    for share in (0.0, 0.3):
        for part in (0.0, 0.1, 0.2):
            rng = np.random.default_rng([11, int(10 * share), int(100 * part)])
            found = [_searched(rng, -part * MARGIN, share) for _ in range(studies)]
            gain, free, high = np.mean(found, axis=0)
            print(f"  {part:4} of the margin, {share:.0%} of chance shared: false star of a gain "
                  f"{gain:.1%}; the last free step is not {free:.1%}; the best is too high by "
                  f"{high:.1f} standard errors", flush=True)  # fmt: skip


def _searched(rng: np.random.Generator, true: float, share: float) -> tuple[bool, bool, float]:
    chance = _chance(rng, share)
    gone, left = np.zeros(1 + RESAMPLES), list(range(VARIANTS))
    tried: list[Cut] = []
    steps = []
    for count in range(1, STEPS + 1):
        best = max(left, key=lambda one: chance[one, 0])
        for one in left:
            if one == best:
                steps.append(len(tried))
            tried.append(_cut(count * true, gone + chance[one]))
        gone += chance[best]
        left.remove(best)
    tests = [seen for _, seen in tried]
    stars = max_t(tests)
    found = verdicts(tests, stars, IMAGES, MARGIN)
    free = [i for i in steps if found[i].outcome == "free"]
    gain = any(stars[i] < 0.05 and tests[i].change > 0 for i in steps)
    high = max((tests[i].change - tried[i][0]) / tests[i].error for i in steps)
    return gain, bool(free) and is_wrong(found[free[-1]], tried[free[-1]][0]), high


def _cut(true: float, chance: np.ndarray) -> Cut:
    error = float(np.std(chance[1:]))
    seen = PairedTest(true + float(chance[0]), error, IMAGES - 1.0, chance[1:] / error)
    return true, seen


def _chance(rng: np.random.Generator, share: float) -> np.ndarray:
    """(parts, 1 + resamples): of changes on some images, and on resamples of them."""
    common, own = rng.normal(0, 1, 1 + RESAMPLES), rng.normal(0, 1, (VARIANTS, 1 + RESAMPLES))
    return ERROR * (np.sqrt(share) * common + np.sqrt(1 - share) * own)


def _cuts(true: np.ndarray, chance: np.ndarray) -> list[Cut]:
    """Of the first 1, 2, 3 ... parts."""
    return [_cut(*one) for one in zip(true.tolist(), chance, strict=True)]


def _largest_is_wrong(cuts: list[Cut]) -> tuple[bool, Cut | None]:
    tests = [seen for _, seen in cuts]
    found = verdicts(tests, max_t(tests), IMAGES, MARGIN)
    free = [i for i, one in enumerate(found) if one.outcome == "free"]
    if not free:
        return False, None
    return is_wrong(found[free[-1]], cuts[free[-1]][0]), cuts[free[-1]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    asked = parser.parse_args()
    simulate(asked.studies)
    search(asked.studies // 2)

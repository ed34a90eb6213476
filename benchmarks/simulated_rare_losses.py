"""How often a part is found free that costs, but on few images; no detector, no AP.

    python benchmarks/simulated_rare_losses.py [--studies 40]

Studies of 24 parts that each cost twice the margin, all of it on a share of the images; on the
others nothing changes. What a study happens not to see costs nothing in it. Then the same in races
on up to 2,060 images, whose first look is after 104; elsewhere parts of images deviate by 0.02.
"""

import argparse

import numpy as np
from simulated_races import LOOKS
from simulated_studies import MARGIN, VARIANTS

from ablate_kit.metrics.uncertainty.bootstrap import GROUPS, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import PairedTest, paired_test
from ablate_kit.metrics.uncertainty.multiplicity import max_t
from ablate_kit.metrics.uncertainty.raced import StepDown
from ablate_kit.metrics.uncertainty.verdict import Outcome, verdicts

SHARES, IMAGES = (0.02, 0.05, 0.1, 0.2), (30, 100, 300, 1000)


def simulate(studies: int) -> None:
    for images in IMAGES:
        drawn = draws(images, 500, 0)[:, 1:].astype(float)
        left = left_out(images, min(images, GROUPS), 0).astype(float)
        told = []
        for number, share in enumerate(SHARES):
            rng = np.random.default_rng([9, images, number])
            found = [_study(rng, share, drawn, left) for _ in range(studies)]
            free = np.mean([one == "free" for study in found for one in study])
            told.append(f"{share:.0%} of images: {free:.1%}")
        print(f"{images} images, found free of {studies * VARIANTS} parts that cost on "
              f"{'  '.join(told)}", flush=True)  # fmt: skip


def races(studies: int) -> None:
    samples = {}
    for images in LOOKS.images:
        drawn = draws(images, 500, 0)[:, 1:].astype(float)
        samples[images] = drawn, left_out(images, min(images, GROUPS), 0).astype(float)
    told = []
    for number, share in enumerate(SHARES):
        rng = np.random.default_rng([10, number])
        free = 0
        for _ in range(studies):
            lost = _losses(rng, share, LOOKS.images[-1]) + rng.normal(
                0, 0.02, (VARIANTS, LOOKS.images[-1])
            )
            running, steps = set(range(VARIANTS)), StepDown(LOOKS, map(str, range(VARIANTS)))
            for images in LOOKS.images:
                order = sorted(running)
                tests = _tests(lost[order, :images], *samples[images])
                stopped = {
                    str(i): outcome
                    for i, test in zip(order, tests, strict=True)
                    if (outcome := steps.come_to(test, images, MARGIN)) is not None
                }
                free += sum(outcome == "free" for outcome in stopped.values())
                steps.settle(stopped)
                running -= set(map(int, stopped))
        told.append(f"{share:.0%} of images: {free / studies / VARIANTS:.1%}")
    print(f"races, found free of {studies * VARIANTS} parts that cost on {'  '.join(told)}")


def _study(
    rng: np.random.Generator, share: float, drawn: np.ndarray, left: np.ndarray
) -> list[Outcome]:
    tests = _tests(_losses(rng, share, len(drawn)), drawn, left)
    stars = iter(max_t([one for one in tests if one is not None]))
    adjusted = [None if one is None else next(stars) for one in tests]
    return [one.outcome for one in verdicts(tests, adjusted, len(drawn), MARGIN)]


def _losses(rng: np.random.Generator, share: float, images: int) -> np.ndarray:
    size = VARIANTS, images
    return -2 * MARGIN / share * rng.exponential(1, size) * (rng.random(size) < share)


def _tests(lost: np.ndarray, drawn: np.ndarray, left: np.ndarray) -> list[PairedTest | None]:
    of_resamples, of_rest = lost @ drawn / len(drawn), lost @ left / left.sum(axis=0)
    return [
        paired_test(Sampled(float(value), one, rest, len(drawn), ratio=False))
        for value, one, rest in zip(lost.mean(axis=1), of_resamples, of_rest, strict=True)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=40)
    asked = parser.parse_args()
    simulate(asked.studies)
    races(asked.studies)

"""How often a part is found free that costs, but on few images; no detector, no AP.

    python benchmarks/simulated_rare_losses.py [--studies 40]

Studies of 24 parts that each cost twice the margin, all of it on a share of the images; on the
others nothing changes. What a study happens not to see costs nothing in it.
"""

import argparse

import numpy as np
from simulated_studies import MARGIN, VARIANTS

from ablate_kit.metrics.uncertainty.bootstrap import GROUPS, Sampled, draws, left_out
from ablate_kit.metrics.uncertainty.chance import held_against_chance
from ablate_kit.metrics.uncertainty.multiplicity import max_t
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


def _study(
    rng: np.random.Generator, share: float, drawn: np.ndarray, left: np.ndarray
) -> list[Outcome]:
    size = VARIANTS, len(drawn)
    lost = -2 * MARGIN / share * rng.exponential(1, size) * (rng.random(size) < share)
    of_resamples, of_rest = lost @ drawn / len(drawn), lost @ left / left.sum(axis=0)
    tests = [
        held_against_chance(Sampled(float(value), one, rest, len(drawn), ratio=False))
        for value, one, rest in zip(lost.mean(axis=1), of_resamples, of_rest, strict=True)
    ]
    stars = iter(max_t([one for one in tests if one is not None]))
    adjusted = [None if one is None else next(stars) for one in tests]
    return [one.outcome for one in verdicts(tests, adjusted, len(drawn), MARGIN)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=40)
    simulate(parser.parse_args().studies)

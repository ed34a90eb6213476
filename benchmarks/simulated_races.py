"""How often anything of a race is wrong, and how many passes it saves; no detector, no AP.

    python benchmarks/simulated_races.py [--studies 10000]

Studies of 24 variants on up to 2,060 images, whose parts are normal, held against the bounds of the
product's own races: all changes 0 (any star is false), or all at the margin exactly (any verdict
but "undecided" is wrong).
"""

import argparse
from dataclasses import replace

import numpy as np
from simulated_studies import CHANCE, MARGIN, VARIANTS, is_wrong

from ablate_kit.metrics.uncertainty.chance import AgainstChance
from ablate_kit.metrics.uncertainty.raced import StepDown
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict

LOOKS = Looks((104, 152, 232, 344, 512, 760, 1144, 2060), VARIANTS, futility=0.2)


def simulate(studies: int) -> None:
    """Chance of anything false in a race, of normal parts: with their sums and sums of squares."""
    far = np.where(np.arange(VARIANTS) % 2, -MARGIN, -3 * MARGIN)
    for what, true in (
        ("0", np.zeros(VARIANTS)),
        ("the margin", np.full(VARIANTS, -MARGIN)),
        ("the margin, every other one far beyond", far),
    ):
        for alike in (0.0, 0.9):
            rng = np.random.default_rng([6, int(-100 * true.sum()), int(10 * alike)])
            found = np.array([_race(rng, true, alike) for _ in range(studies)])
            star, wrong, passes = found.mean(axis=0)
            told = f"verdict {100 * wrong:4.2f} %"
            if not true.any():
                told = f"star {100 * star:4.2f} %, {told}"
            print(f"races: any wrong of {VARIANTS}, true {what}, correlation {alike}: {told}; "
                  f"{1 / passes:.1f} times fewer passes ({studies:,} studies, {len(LOOKS.images)} "
                  "looks)", flush=True)  # fmt: skip


def _race(rng: np.random.Generator, true: np.ndarray, alike: float) -> tuple[bool, bool, float]:
    """Whether a race has any false star, and any wrong verdict; and its share of all passes."""
    total, squares, seen = np.zeros(VARIANTS), np.zeros(VARIANTS), 0
    running, star, wrong = np.ones(VARIANTS, dtype=bool), False, False
    passes, step_down = 0, StepDown(LOOKS, map(str, range(VARIANTS)))
    for images in LOOKS.images:
        new = images - seen
        part = np.sqrt(alike) * rng.normal() + np.sqrt(1 - alike) * rng.normal(0, 1, VARIANTS)
        part *= np.sqrt(new)  # of what the new images say, summed
        squares += part**2 / new + rng.chisquare(new - 1, VARIANTS)
        total += part
        seen = images
        passes += new * int(running.sum())
        error = np.sqrt((squares - total**2 / seen) / (seen - 1) / seen) * CHANCE
        levels, stopped = step_down.levels(images), dict[str, Outcome]()
        for i in np.flatnonzero(running):
            change = float(true[i]) + float(total[i]) / seen * CHANCE
            test = AgainstChance(change, float(error[i]), seen - 1.0, np.zeros(0))
            outcome = step_down.come_to(test, images, MARGIN)
            if outcome is None:
                continue
            running[i] = False
            stopped[str(i)] = outcome
            star |= replace(test, change=change - float(true[i])).p < levels.stars
            wrong |= is_wrong(Verdict(outcome, MARGIN), float(true[i]) + 1e-12) or (
                is_wrong(Verdict(outcome, MARGIN), float(true[i]) - 1e-12)
            )
        step_down.settle(stopped)
    return star, wrong, passes / LOOKS.images[-1] / VARIANTS


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000)
    simulate(parser.parse_args().studies)

"""How often anything of a race is wrong, and how many passes it saves; no detector, no AP.

    python benchmarks/simulated_races.py [--studies 10000]

Studies of 24 variants on up to 2,060 images, whose parts are normal, held against the bounds of the
product's own races: all changes 0 (any star is false), or all at the margin exactly (any verdict
but "undecided" is wrong). Then passes, with the changes and deviations that 24 heads of a real
detector showed on 206 photographs (``racing.py``).
"""

import argparse
from dataclasses import replace

import numpy as np
from simulated_studies import CHANCE, MARGIN, VARIANTS, is_wrong

from ablate_kit.metrics.uncertainty.chance import PairedTest
from ablate_kit.metrics.uncertainty.raced import StepDown
from ablate_kit.metrics.uncertainty.sequential import Looks
from ablate_kit.metrics.uncertainty.verdict import Outcome, Verdict

LOOKS = Looks((104, 152, 232, 344, 512, 760, 1144, 2060), VARIANTS, futility=0.2)
MORE_LOOKS = Looks((*LOOKS.images[:-1], 1712, 2568, 3848, 5150), VARIANTS, futility=0.2)
# DEIMv2-Atto's heads of self-attention in the decoder: changes of AP, and by how much what an image
# says of each deviates.
HEADS = (
    (-0.001, 0.061), (-0.0047, 0.056), (-0.0009, 0.069), (-0.0001, 0.047), (-0.0118, 0.08),
    (-0.0027, 0.084), (-0.0693, 0.143), (-0.0062, 0.05), (-0.0011, 0.034), (-0.048, 0.112),
    (-0.0024, 0.029), (-0.0011, 0.046), (-0.001, 0.023), (-0.0205, 0.078), (-0.0027, 0.056),
    (-0.0002, 0.028), (-0.0221, 0.097), (0.0003, 0.026), (-0.0002, 0.022), (-0.0028, 0.043),
    (0.0033, 0.026), (-0.0005, 0.026), (-0.0003, 0.024), (-0.0005, 0.032),
)  # fmt: skip


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
            found = [_race(rng, true, alike) for _ in range(studies)]
            star, wrong, passes, _ = np.mean(found, axis=0)
            told = f"verdict {100 * wrong:4.2f} %"
            if not true.any():
                told = f"star {100 * star:4.2f} %, {told}"
            print(f"races: any wrong of {VARIANTS}, true {what}, correlation {alike}: {told}; "
                  f"{1 / passes:.1f} times fewer passes ({studies:,} studies, {len(LOOKS.images)} "
                  "looks)", flush=True)  # fmt: skip


def passes(studies: int) -> None:
    """How many passes a race of parts like those of a real detector saves, and what it decides."""
    true, deviation = np.array(HEADS).T
    for looks in (LOOKS, MORE_LOOKS):
        rng = np.random.default_rng([7, looks.images[-1]])
        found = [_race(rng, true, 0.3, deviation, looks) for _ in range(studies)]
        _, wrong, share, decided = np.mean(found, axis=0)
        print(f"races of 24 heads on {looks.images[-1]:,} images: {1 / share:.1f} times fewer "
              f"passes, {decided:.1f} decided; any wrong verdict in {100 * wrong:.1f} % of "
              f"{studies:,} studies", flush=True)  # fmt: skip


def _race(
    rng: np.random.Generator,
    true: np.ndarray,
    alike: float,
    deviation: np.ndarray | float = CHANCE,
    looks: Looks = LOOKS,
) -> tuple[bool, bool, float, int]:
    """Whether a race has any false star, and any wrong verdict; its share of all passes, and how
    many it decides."""
    deviation = np.broadcast_to(deviation, VARIANTS)
    total, squares, seen = np.zeros(VARIANTS), np.zeros(VARIANTS), 0
    running, star, wrong = np.ones(VARIANTS, dtype=bool), False, False
    passes, decided, step_down = 0, 0, StepDown(looks, map(str, range(VARIANTS)))
    for images in looks.images:
        new = images - seen
        part = np.sqrt(alike) * rng.normal() + np.sqrt(1 - alike) * rng.normal(0, 1, VARIANTS)
        part *= np.sqrt(new)  # of what the new images say, summed
        squares += part**2 / new + rng.chisquare(new - 1, VARIANTS)
        total += part
        seen = images
        passes += new * int(running.sum())
        error = np.sqrt((squares - total**2 / seen) / (seen - 1) / seen) * deviation
        levels, stopped = step_down.levels(images), dict[str, Outcome]()
        for i in np.flatnonzero(running):
            change = float(true[i]) + float(total[i]) / seen * float(deviation[i])
            test = PairedTest(change, float(error[i]), seen - 1.0, np.zeros(0))
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
        decided += sum(outcome != "undecided" for outcome in stopped.values())
    return star, wrong, passes / looks.images[-1] / VARIANTS, decided


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000)
    studies = parser.parse_args().studies
    simulate(studies)
    passes(studies // 10)

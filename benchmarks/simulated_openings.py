"""How often a study is wrong for choosing on the same images which parts it looks into; no AP.

    python benchmarks/simulated_openings.py [--studies 4000]

Studies of 7 parts with 8 inside of each. A part that is found free by itself is not opened; all
that was cut is judged at once, as ``ablate study`` does. What an inside part shows is correlated
with what its part shows. The standard error of a change is that share of the margin that makes the
margin 2.2, 2.6 or 3.5 of it, so that of parts without any change most, half and few are opened.
"""

import argparse

import numpy as np
from simulated_studies import MARGIN, is_wrong

from ablate_kit.metrics.uncertainty.chance import PairedTest
from ablate_kit.metrics.uncertainty.multiplicity import max_t
from ablate_kit.metrics.uncertainty.verdict import verdicts

PARTS, INSIDE, IMAGES, RESAMPLES = 7, 8, 200, 500


def simulate(studies: int) -> None:
    for what, true in (("0", 0.0), ("just within the margin", 1e-9 - MARGIN),
                       ("just beyond it", -1e-9 - MARGIN)):  # fmt: skip
        for alike in (0.35, 0.8):
            told = []
            for errors in (2.2, 2.6, 3.5):
                rng = np.random.default_rng([12, int(10 * errors), int(100 * alike)])
                found = [_study(rng, true, alike, MARGIN / errors) for _ in range(studies)]
                opened, star, wrong = 100 * np.mean(found, axis=0)
                stars = f"star {star:.1f} %, " if not true else ""
                told.append(f"{opened:.0f} % opened: {stars}verdict {wrong:.1f} %")
            print(f"any wrong of a study, true change {what}, correlation {alike}: "
                  f"{'; '.join(told)} ({studies:,} studies)", flush=True)  # fmt: skip


def _study(
    rng: np.random.Generator, true: float, alike: float, error: float
) -> tuple[float, bool, bool]:
    """Which share of the parts was opened, and whether any star and any verdict is wrong."""
    chance = rng.normal(0, 1, (PARTS, 1 + INSIDE, 1 + RESAMPLES))
    chance[:, 1:] = alike * chance[:, :1] + np.sqrt(1 - alike**2) * chance[:, 1:]
    tests = [
        [PairedTest(true + error * one[0], error, IMAGES - 1.0, one[1:]) for one in part]
        for part in chance
    ]
    whole = [part[0] for part in tests]
    alone = [verdicts([one], [one.p], IMAGES, MARGIN)[0].outcome for one in whole]
    cut = whole + [
        one for part, outcome in zip(tests, alone, strict=True) if outcome != "free"
        for one in part[1:]
    ]  # fmt: skip
    stars = max_t(cut)
    wrong = any(is_wrong(one, true) for one in verdicts(cut, stars, IMAGES, MARGIN))
    return (len(cut) - PARTS) / PARTS / INSIDE, min(stars) < 0.05, wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000)
    simulate(parser.parse_args().studies)

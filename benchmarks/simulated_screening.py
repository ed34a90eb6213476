"""What the rank correlation that a screened run tells has to do with what screening finds.

    python benchmarks/simulated_screening.py [--studies 1000]

180 variants, of which about 15 % lose some hundredths of AP and the others next to nothing, are
evaluated with an error of 0.003. Estimates follow the logarithms of the true losses, more or less
closely. The 20 with the largest are kept and 20 are drawn from all, as in ``ablate sweep`` with
``screen``. Told are Spearman's correlation on all 180, the one that the run tells, of those that it
evaluates, and the share of what loses more than 0.01 AP (of 20, where more do) among the kept.
"""

import argparse

import numpy as np
from scipy.stats import spearmanr

from ablate_kit.sweeps.recipes.screening import Screened, agreement

VARIANTS, KEEP, SAMPLE, MARGIN, ERROR = 180, 20, 20, 0.01, 0.003


def simulate(studies: int) -> None:
    print(f"{'follows':>8}{'of all':>9}{'told':>16}{'kept of the costly':>20}")
    for closely in (0.0, 0.35, 0.5, 0.65, 0.8, 0.95):
        rng = np.random.default_rng([11, int(100 * closely)])
        found = np.array([_study(rng, closely) for _ in range(studies)])
        (of_all, told, kept), spread = found.mean(axis=0), found[:, 1].std()
        print(f"{closely:8.2f}{of_all:9.2f}{told:9.2f} ± {spread:.2f}{100 * kept:18.0f} %")


def _study(rng: np.random.Generator, closely: float) -> tuple[float, float, float]:
    costly, others = rng.lognormal(-3.5, 0.8, VARIANTS), rng.lognormal(-8, 1, VARIANTS)
    true = np.where(rng.random(VARIANTS) < 0.15, costly, others)
    size = np.log(true)
    size = (size - size.mean()) / size.std()
    estimates = np.exp(closely * size + np.sqrt(1 - closely**2) * rng.normal(0, 1, VARIANTS))
    losses = true + rng.normal(0, ERROR, VARIANTS)
    names = [str(i) for i in range(VARIANTS)]
    kept = np.argsort(-estimates)[:KEEP]
    drawn = rng.choice(VARIANTS, SAMPLE, replace=False)
    screened = Screened(
        images=1,
        estimates=dict(zip(names, estimates.tolist(), strict=True)),
        kept=[names[i] for i in kept],
        drawn=[names[i] for i in drawn],
        exact=[],
    )
    told = agreement(screened, dict(zip(names, (-losses).tolist(), strict=True)), MARGIN)
    costs = true > MARGIN
    share = costs[kept].sum() / max(1, min(KEEP, costs.sum()))
    return float(spearmanr(estimates, losses).statistic), told.correlation or 0.0, float(share)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    simulate(parser.parse_args().studies)

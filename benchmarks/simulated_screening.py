"""What the rank correlation that a screened run tells has to do with what screening finds.

    python benchmarks/simulated_screening.py [--studies 1000]

180 variants, of which about 15 % lose some hundredths of AP and the others next to nothing, are
evaluated with an error of 0.003. Estimates follow the logarithms of the true losses, more or less
closely. The 20 with the largest are kept and 20 are drawn from all, as in ``ablate sweep`` with
``screen``. Told are Spearman's correlation on all 180, the one that the run tells, of those that it
evaluates, and the share of what loses more than 0.01 AP (of 20, where more do) among the kept.

Then how often more of those that were not evaluated lose so much than the run says at most: by
their true losses, and by what an evaluation would measure. A share of the variants costs as above,
or just more than 0.01 AP, or losses are exponential; errors are of many images, and of few.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy.stats import spearmanr

from ablate_kit.metrics.uncertainty.bootstrap import Floats
from ablate_kit.sweeps.run_folder.screened import EstimateAgreement, Screened, agreement

VARIANTS, KEEP, SAMPLE, MARGIN, ERROR = 180, 20, 20, 0.01, 0.003


def simulate(studies: int) -> None:
    print(f"{'follows':>8}{'of all':>9}{'told':>16}{'kept of the costly':>20}")
    for closely in (0.0, 0.35, 0.5, 0.65, 0.8, 0.95):
        rng = np.random.default_rng([11, int(100 * closely)])
        found = np.array([_study(rng, closely) for _ in range(studies)])
        (of_all, told, kept), spread = found.mean(axis=0), found[:, 1].std()
        print(f"{closely:8.2f}{of_all:9.2f}{told:9.2f} ± {spread:.2f}{100 * kept:18.0f} %")


def _study(rng: np.random.Generator, closely: float) -> tuple[float, float, float]:
    true = _some_cost(rng, 0.15)
    screened, losses, told = _screened(rng, true, closely, ERROR)
    costs = true > MARGIN
    share = costs[[int(i) for i in screened.kept]].sum() / max(1, min(KEEP, costs.sum()))
    estimates = list(screened.estimates.values())
    return float(spearmanr(estimates, losses).statistic), told.correlation or 0.0, float(share)


def _some_cost(rng: np.random.Generator, share: float) -> Floats:
    costly, others = rng.lognormal(-3.5, 0.8, VARIANTS), rng.lognormal(-8, 1, VARIANTS)
    return np.where(rng.random(VARIANTS) < share, costly, others)


def _just_beyond(rng: np.random.Generator, share: float) -> Floats:
    costly = MARGIN * rng.uniform(1.05, 1.35, VARIANTS)
    return np.where(rng.random(VARIANTS) < share, costly, rng.lognormal(-8, 1, VARIANTS))


def _screened(
    rng: np.random.Generator, true: Floats, closely: float, error: float
) -> tuple[Screened, Floats, EstimateAgreement]:
    size = np.log(true)
    size = (size - size.mean()) / size.std()
    estimates = np.exp(closely * size + np.sqrt(1 - closely**2) * rng.normal(0, 1, VARIANTS))
    losses = true + rng.normal(0, error, VARIANTS)
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
    changes = dict(zip(names, (-losses).tolist(), strict=True))
    return screened, losses, agreement(screened, changes, MARGIN)


LOSSES: dict[str, Callable[[np.random.Generator], Floats]] = {
    "5 % cost": lambda rng: _some_cost(rng, 0.05),
    "30 % cost": lambda rng: _some_cost(rng, 0.3),
    "5 % just more than the margin": lambda rng: _just_beyond(rng, 0.05),
    "30 % just more than the margin": lambda rng: _just_beyond(rng, 0.3),
    "exponential": lambda rng: rng.exponential(0.6 * MARGIN, VARIANTS),
}


def bound(studies: int) -> None:
    for number, (what, losses_of) in enumerate(LOSSES.items()):
        told = []
        for error in (0.0, ERROR, 3 * ERROR):
            rng = np.random.default_rng([12, number])
            exceeded = np.zeros(2)
            for _ in range(studies):
                true = losses_of(rng)
                screened, losses, says = _screened(rng, true, 0.0, error)
                seen = {int(i) for i in (*screened.kept, *screened.drawn)}
                left = [i for i in range(VARIANTS) if i not in seen]
                exceeded += [(one[left] > MARGIN).sum() > says.may_lose for one in (true, losses)]
            of_true, of_measured = 100 * exceeded / studies
            told.append(f"{error:g}: {of_true:.1f} % ({of_measured:.1f} %)")
        print(f"more than the bound, truly (as measured), {what}; by the error: {', '.join(told)}",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    simulate(studies)
    bound(studies)

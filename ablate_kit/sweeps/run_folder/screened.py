"""What screening estimated, as a run keeps it, and how far exact evaluations bear it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.sweeps.run_folder.checked_json import keep_value, kept_value

FILE = "screen.json"
GOOD = 0.6  # rank correlation below which estimates are not to be relied on


class Screened(BaseModel):
    """What was estimated and what is evaluated for it, ``screen.json`` of a run.

    Attributes:
        estimates: by variant.
        kept: those with the largest estimates.
        drawn: a sample of all, which the estimates are compared with.
        exact: variants that cannot be estimated, all of which are evaluated.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    images: int = Field(ge=1)
    estimates: dict[str, float]
    kept: list[str]
    drawn: list[str]
    exact: list[str]

    def chosen(self, ablations: Sequence[Ablation]) -> list[Ablation]:
        """What is evaluated, with its random controls."""
        names = {*self.kept, *self.drawn, *self.exact}
        return [one for one in ablations if str(one.factors.get("control_of", one.name)) in names]

    def keep(self, folder: Path) -> None:
        keep_value(folder / FILE, self)


def screened(folder: Path) -> Screened | None:
    """None of a run without; raises ``UserError`` where the file is no such thing."""
    return kept_value(folder / FILE, Screened, "say what was screened")


@dataclass(frozen=True)
class EstimateAgreement:
    """How estimates rank what was evaluated exactly: were they of no use, those with the largest
    would be like those that were drawn.

    Attributes:
        variants: those that were drawn, and as many with the largest estimates.
        correlation: Spearman's, of their estimates and losses of AP; None where there are too few,
            or all are equal. Of all ablations it is lower where most lose next to nothing, whose
            order is chance; but this one tells how much of what is costly is kept
            (``benchmarks/simulated_screening.py``).
        others: how many were drawn that were not kept.
        missed: how many of these lose more than the margin.
        left: how many were neither kept nor drawn.
    """

    variants: int
    correlation: float | None
    others: int
    missed: int
    left: int

    @property
    def poor(self) -> bool:
        return self.correlation is None or self.correlation < GOOD

    @property
    def may_lose(self) -> int:
        """How many of those left may lose more than the margin, with 95 % confidence: the most of
        which a draw without replacement finds so few in more than one case of 20 (hypergeometric).
        """
        from scipy.stats import hypergeom

        drawn_from, losing = self.others + self.left, self.missed + np.arange(self.left + 1)
        found = hypergeom.cdf(self.missed, drawn_from, losing, self.others)  # falls in ``losing``
        return int(np.count_nonzero(found > 0.05)) - 1


def agreement(
    found: Screened, changes: Mapping[str, float | None], margin: float
) -> EstimateAgreement:
    """``changes``: of AP, by variant."""
    kept = set(found.kept)
    losses = {
        name: -change
        for name in dict.fromkeys([*found.kept[: len(found.drawn)], *found.drawn])
        if (change := changes.get(name)) is not None
    }
    others = [losses[name] for name in found.drawn if name in losses and name not in kept]
    missed = sum(loss > margin for loss in others)
    counts = len(others), missed, len(found.estimates) - len({*kept, *found.drawn})
    estimated, exact = [found.estimates[name] for name in losses], list(losses.values())
    if len(losses) < 4 or len(set(estimated)) < 2 or len(set(exact)) < 2:
        return EstimateAgreement(len(losses), None, *counts)
    from scipy.stats import spearmanr  # which takes a third of a second to load

    correlation = float(spearmanr(estimated, exact).statistic)
    return EstimateAgreement(len(losses), correlation, *counts)

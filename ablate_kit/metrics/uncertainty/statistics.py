"""How changes are tested: what of it a user chooses."""

from dataclasses import dataclass

from ablate_kit.errors import UserError
from ablate_kit.metrics.uncertainty.bootstrap import MOST_RESAMPLES, RESAMPLES
from ablate_kit.metrics.uncertainty.multiplicity import Adjust
from ablate_kit.metrics.uncertainty.verdict import MARGIN


@dataclass(frozen=True)
class Statistics:
    """What intervals, stars and verdicts are made with."""

    resamples: int = RESAMPLES  # of the bootstrap over images; 0: no intervals
    seed: int = 0  # of its draws
    margin: float = MARGIN  # a change of AP below it counts as free; 0 to 1
    # What is kept at 5 % over several variants: ``family``, the chance of any false star; ``fdr``,
    # the share of false stars among the stars, for exploring.
    adjust: Adjust = "family"
    # How images that belong together are told, as in ``metrics.clusters``; the ground truth has the
    # clusters.
    cluster: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1:  # nor is NaN
            raise UserError(f"the margin is {self.margin:g}; expected 0 to 1")
        if not 0 <= self.resamples <= MOST_RESAMPLES:
            raise UserError(
                f"resamples are {self.resamples:,}; expected 0 (no intervals) to {MOST_RESAMPLES:,}"
            )


DEFAULTS = Statistics()

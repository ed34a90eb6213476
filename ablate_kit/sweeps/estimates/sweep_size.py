"""How many variants a sweep comes to, of which some are chosen on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate_kit.metrics.result import is_control
from ablate_kit.plural import counted
from ablate_kit.sweeps.open_sweep import OpenSweep


@dataclass(frozen=True)
class SweepSize:
    """Numbers of variants.

    Attributes:
        known: before any is evaluated.
        searches: rounds and variants of each greedy search.
        joint: cuts of more and more parts, ranked by their numbers.
    """

    known: int
    searches: Sequence[tuple[int, int]]
    joint: int

    @property
    def later(self) -> int:
        """How many searches and rankings add, at most."""
        return sum(tries for _, tries in self.searches) + self.joint

    def told(self, what: str) -> str:
        if not self.later:
            return counted(self.known, what)
        chosen = f"{counted(self.later, what)} chosen on the way"
        return f"{counted(self.known, what)} and {chosen}" if self.known else chosen


def size_of(sweep: OpenSweep) -> SweepSize:
    recipe = sweep.recipe
    named = {one.name: one for one in sweep.ablations if not is_control(one.factors)}
    return SweepSize(
        len(sweep.variants),
        [line.size(sweep.source) for line in recipe.searches],
        sum(line.count(named) for line in recipe.rankings),
    )

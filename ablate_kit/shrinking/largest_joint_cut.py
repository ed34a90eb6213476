"""How much can go at once: joint cuts of more and more parts, each of them evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.errors import UserError
from ablate_kit.metrics.result import Result
from ablate_kit.metrics.uncertainty.comparison import Comparison, compare
from ablate_kit.metrics.uncertainty.verdict import not_missed
from ablate_kit.models.adapter import Adapter
from ablate_kit.shrinking.judged_on import JudgedOn
from ablate_kit.sweeps.run import UNWATCHED, Progress, sweep
from ablate_kit.sweeps.variants.variant import Variant

MOST = 16
"""Joint cuts that are evaluated; of more parts, so many counts of them, evenly apart."""


@dataclass(frozen=True)
class JointCuts:
    """``cuts`` are of the first 1, 2, 3 ... parts; ``results`` begin with the unmodified model."""

    cuts: tuple[Ablation, ...]
    counts: tuple[int, ...]
    results: Sequence[Result]
    compared: Comparison

    @property
    def largest(self) -> tuple[Ablation, int]:
        """Of ``cuts`` the largest that is free, and of how many parts it is.

        Raises ``UserError`` where none is.
        """
        verdicts = [change["AP"].verdict for change in self.compared.changes]
        free = [i for i, one in enumerate(verdicts) if not_missed(one)]
        if not free:
            raise UserError(
                f"none of {len(self.cuts)} joint cuts of 1 to {self.counts[-1]} free parts is seen "
                f"to be free within {self.compared.statistics.margin:g} AP on these images: more "
                "images, or a wider --margin, would tell"
            )
        return self.cuts[free[-1]], self.counts[free[-1]]


def joint_cuts(
    adapter: Adapter, parts: Sequence[Ablation], on: JudgedOn, progress: Progress = UNWATCHED
) -> JointCuts:
    """Evaluates the first part, the first two, and so on; p-values are adjusted over all."""
    points = min(len(parts), MOST)
    counts = tuple(dict.fromkeys(round(len(parts) * i / points) for i in range(1, points + 1)))
    cuts = tuple(joined(*parts[:n], name=f"first-{n}-of-{len(parts)}") for n in counts)
    variants = [Variant.of(one) for one in cuts]
    seen = on.seen_by(adapter)
    done = sweep(adapter, seen, variants, on.evaluation, truth=on.truth, progress=progress)
    compared = compare(done.truth, done.results, on.evaluation.statistics)
    return JointCuts(cuts, counts, done.results, compared)

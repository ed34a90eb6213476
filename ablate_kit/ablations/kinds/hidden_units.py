"""Units between the two layers of feed-forward branches: those with the smallest weights."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.edits import Blocks, Edit
from ablate_kit.ablations.factors import BY_WEIGHTS, Factors
from ablate_kit.ablations.kinds.drawn import check_percent, share
from ablate_kit.ablations.kinds.kind import Kind, KindContext, Numbers
from ablate_kit.ablations.name_patterns import file_name
from ablate_kit.anatomy.feed_forwards import FeedForward, feed_forwards
from ablate_kit.checkpoints import Checkpoint
from ablate_kit.errors import UserError

if TYPE_CHECKING:
    import torch


def smallest_units(checkpoint: Checkpoint, branch: FeedForward) -> list[int]:
    """All units of a branch, the smallest first: by the norm of the weights that lead to a unit
    times the norm of those that lead on from it."""
    last: torch.Tensor = checkpoint.read(branch.last).double()
    size = last.norm(dim=0)
    for weight in branch.first:
        rows = checkpoint.read(weight).double().norm(dim=1)
        size = size * (rows.unflatten(0, (-1, branch.units)).prod(dim=0))
    order: list[int] = size.argsort(stable=True).tolist()
    return order


@dataclass(frozen=True, kw_only=True)
class HiddenUnits(Kind):
    """A share of the hidden units of each feed-forward branch, those with the smallest weights."""

    kind: Literal["hidden-units"] = "hidden-units"
    pattern: str
    percent: Numbers

    def make(self, source: KindContext) -> list[Ablation]:
        """One ablation per percentage: that share of each branch's units, the smallest first.

        What leads on from a unit becomes zero. The number of units is rounded down. Raises
        ``UserError`` where that leaves none.
        """
        checkpoint = source.checkpoint
        named = source.floating(self.pattern)
        branches = [one for one in feed_forwards(checkpoint.tensors) if one.last in named]
        if not branches:
            raise UserError(
                f'"{self.pattern}" names no feed-forward branch of {checkpoint}: two layers such '
                "as fc1 and fc2"
            )
        label = file_name(self.pattern)
        ranked = [(branch, smallest_units(checkpoint, branch)) for branch in branches]
        found = []
        for percent in self.percent:
            check_percent(percent)
            edits = []
            for branch, order in ranked:
                count = share(branch.units, percent)
                if count == 0:
                    raise UserError(
                        f"{percent:g} % of the {branch.units} units of {branch.module} is less "
                        "than one"
                    )
                ranges = tuple((unit, unit + 1) for unit in sorted(order[:count]))
                edits.append(Edit(branch.last, Blocks(1, ranges)))
            factors: Factors = {"target": label, "percent": percent, "order": BY_WEIGHTS}
            name = f"{label}-smallest{percent:g}pct"
            found.append(Ablation(name, "hidden-units", tuple(edits), factors=factors))
        return found

"""Modules of another checkpoint put into this one: which of them make the difference?

What such a variant holds is the other checkpoint's tensors, which are no values that an ablation
says. So the line makes no ablations; the sweep, which has the model, makes its variants
(``sweeps.recipes.donor_variants``).
"""

from dataclasses import dataclass, field
from typing import Literal

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.kind import Count, Kind, KindContext
from ablate_kit.errors import UserError

KIND = "patch"
DONOR = "donor"  # the variant that is the other checkpoint whole
ALPHAS = (0.25, 0.5, 0.75, 1.25)
_FARTHEST = 10  # from the model, in steps to the donor


@dataclass(frozen=True, kw_only=True)
class Patch(Kind):
    """Modules of ``donor``, a checkpoint of the same model: each alone, more and more of them from
    both ends, all of them, and the line between the two models."""

    kind: Literal["patch"] = "patch"
    donor: str
    donor_weights: str | None = None  # which of the donor's; by default as of the model
    depth: Count | None = None  # levels of a name that make a module
    alpha: list[float] = field(default_factory=lambda: list(ALPHAS))  # 0: the model, 1: the donor

    def make(self, source: KindContext) -> list[Ablation]:
        if self.null_cuts:
            raise UserError("null_cuts: of a donor's modules there is no random cut")
        if any(not -_FARTHEST <= one <= _FARTHEST for one in self.alpha):
            told = ", ".join(f"{one:g}" for one in self.alpha)
            raise UserError(f"alpha is {told}; expected numbers from -{_FARTHEST} to {_FARTHEST}")
        return []

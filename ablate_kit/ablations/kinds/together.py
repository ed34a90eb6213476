"""What other lines of a recipe cut one by one, cut all at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import MinLen

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.kinds.combination import Combination
from ablate_kit.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Together(Combination):
    """Ablations of the recipe's other lines, by name, as one (see ``union``)."""

    kind: Literal["joined"] = "joined"
    members: Annotated[list[str], MinLen(1)]
    name: str | None = None

    def count(self, made: Mapping[str, Ablation]) -> int:
        return 1

    def combine(self, made: Mapping[str, Ablation]) -> list[Ablation]:
        for member in self.members:
            if member not in made:
                near = did_you_mean(member, made)
                raise UserError(f'no other line makes "{member}", to be joined{near}')
        found = joined(*(made[member] for member in self.members))
        return [replace(found, name=self.name) if self.name else found]

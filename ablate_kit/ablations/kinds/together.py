"""What other lines of a recipe cut one by one, cut all at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import MinLen

from ablate_kit.ablations.ablation import Ablation
from ablate_kit.ablations.kinds.kind import Kind, KindContext
from ablate_kit.ablations.union import joined
from ablate_kit.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Together(Kind):
    """Ablations of the recipe's other lines, by name, as one (see ``union``)."""

    kind: Literal["joined"] = "joined"
    members: Annotated[list[str], MinLen(1)]
    name: str | None = None

    def make(self, source: KindContext) -> list[Ablation]:
        return []  # the recipe knows what the other lines make, and asks for ``join``

    def join(self, made: Mapping[str, Ablation]) -> Ablation:
        """All members at once; raises ``UserError`` for one that no line makes."""
        for member in self.members:
            if member not in made:
                near = did_you_mean(member, made)
                raise UserError(f'no other line makes "{member}", to be joined{near}')
        found = joined(*(made[member] for member in self.members))
        return replace(found, name=self.name) if self.name else found

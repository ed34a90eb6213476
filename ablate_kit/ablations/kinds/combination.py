"""Lines of a recipe that put together what its other lines cut one by one."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Annotated, Literal

from annotated_types import MinLen

from ablate_kit.ablations.ablation import Ablation, joined
from ablate_kit.ablations.kinds.kind import Kind, KindContext, Patterns, listed
from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.plural import counted


@dataclass(frozen=True, kw_only=True)
class Combination(Kind):
    """Ablations at once that other lines make alone; the recipe hands them to ``combine``."""

    def make(self, source: KindContext) -> list[Ablation]:
        return []

    @abstractmethod
    def count(self, made: Mapping[str, Ablation]) -> int:
        """How many ``combine`` gives, or more, without making them."""

    @abstractmethod
    def combine(self, made: Mapping[str, Ablation]) -> list[Ablation]:
        """Of ablations by name, random controls left out.

        Raises ``UserError`` for members that are not there, or that cannot be joined.
        """


def parts(made: Mapping[str, Ablation], patterns: Sequence[str] | str | None) -> list[Ablation]:
    """Those whose names match a pattern, by default all: each once, and no joint ones, which are no
    parts. Raises ``UserError`` for fewer than two, and for a pattern without any."""
    alone = {name: one for name, one in made.items() if "member_1" not in one.factors}
    given = listed(patterns or ())
    for pattern in given:
        if not any(fnmatchcase(name, pattern) for name in alone):
            near = did_you_mean(pattern, alone)
            raise UserError(f'no other line makes "{pattern}", to be combined{near}')
    found: dict[str, Ablation] = {}
    for name, one in alone.items():
        if patterns is None or any(fnmatchcase(name, pattern) for pattern in given):
            found.setdefault(one.digest, one)
    if len(found) < 2:
        raise UserError(
            f"the other lines make {counted(len(found), 'ablation')} to be combined; "
            "expected at least 2"
        )
    return list(found.values())


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


@dataclass(frozen=True, kw_only=True)
class Pairs(Combination):
    """All pairs of ablations, each pair as one; ``members``: those whose names match a pattern."""

    kind: Literal["pairs"] = "pairs"
    members: Patterns | None = None  # by default all

    def count(self, made: Mapping[str, Ablation]) -> int:
        count = len(parts(made, self.members))
        return count * (count - 1) // 2

    def combine(self, made: Mapping[str, Ablation]) -> list[Ablation]:
        chosen = parts(made, self.members)
        return [replace(joined(*pair), kind="pairs") for pair in combinations(chosen, 2)]

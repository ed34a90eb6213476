"""What can be taken out of a model, as values: heads, hidden units, queries, branches, layers."""

from dataclasses import dataclass
from typing import ClassVar

from ablate_kit.ablations.name_patterns import spans
from ablate_kit.plural import counted


@dataclass(frozen=True)
class _Numbered:
    """Parts of one module by their numbers, of which it had ``of``."""

    what: ClassVar[str]

    module: str
    numbers: tuple[int, ...]
    of: int

    def __str__(self) -> str:
        return f"{counted(len(self.numbers), self.what)} of {self.module} (of {self.of})"


class RemovedHeads(_Numbered):
    """Attention heads."""

    def __str__(self) -> str:
        word = f"head{'s' * (len(self.numbers) > 1)}"
        return f"{word} {spans(self.numbers)} of {self.module} (of {self.of})"


class RemovedUnits(_Numbered):
    """Units between the layers of a feed-forward branch."""

    what = "hidden unit"


class RemovedChannels(_Numbered):
    """Output channels of a convolution, with all that is coupled to them."""

    what = "channel"


@dataclass(frozen=True)
class RemovedQueries:
    """Object queries, by their rows in the tables."""

    numbers: tuple[int, ...]
    of: int

    def __str__(self) -> str:
        shown = spans(self.numbers) if len(self.numbers) < 9 else str(len(self.numbers))
        word = "query" if len(self.numbers) == 1 else "queries"
        return f"{word} {shown} (of {self.of})"


@dataclass(frozen=True)
class RemovedModule:
    """A module that adds nothing: a residual branch, a block, a whole layer."""

    module: str
    what: str

    def __str__(self) -> str:
        return f"{self.what} {self.module}"


@dataclass(frozen=True)
class Turned:
    """A knob that is set lower: decoder layers or queries."""

    knob: str
    value: int
    before: int

    def __str__(self) -> str:
        what = "decoder layers" if self.knob == "depth" else "queries"
        return f"{self.before - self.value} of {self.before} {what}"


Structure = RemovedHeads | RemovedUnits | RemovedChannels | RemovedQueries | RemovedModule | Turned

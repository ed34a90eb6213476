"""What a study notes beside its ledger, ``plan.json``: its parts, what was cut, and in which order.

A stopped study goes on from it with the same images and the same rounds; a report is made from it.
"""

from collections.abc import Iterable
from itertools import accumulate
from operator import or_
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ablate_kit.errors import UserError
from ablate_kit.sweeps.run_folder.checked_json import keep_value, kept_value

FILE = "plan.json"

# States of a part:
WAITING = "waiting"
CUT = "cut"
INSIDE_FREE = "inside a free part"  # of one that was free by itself when its turn came
NOT_AFFORDED = "not afforded"


class _Noted(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class NotedPart(_Noted):
    """One cut of the outline, as ``Candidate``; ``state``: of the cut."""

    part: str
    head: int | None = None
    kind: str
    elements: int = Field(ge=0)
    depth: int = Field(ge=0)
    parent: int | None = None
    how: str
    variant: str
    state: str = WAITING
    made_of: list[str] = []  # variants that make up this one when they are cut at once


class Noted(_Noted):
    """A whole study."""

    budget: str
    images: int = Field(ge=1)
    total: int = Field(ge=1)
    margin: float
    parts: list[NotedPart]
    rounds: list[list[str]] = []  # the variants of each round, as they were chosen
    spent: float = 0.0  # seconds, up to the last round that is done
    # For each joint cut its name and its members: parts found free, none inside of another.
    together: dict[str, list[str]] = {}
    controls: list[str] = []  # variants that have a random control
    zeros: dict[str, str] = {}  # variants that set to zero what others, by name, set to its mean
    stopped: str = ""  # why nothing more was cut; empty where everything was
    ended: str = ""  # the budget that it came to its end with; empty where it was stopped
    needed: str = ""  # the budget that is enough for all that was not afforded, at most

    def is_about(self, variants: Iterable[str]) -> bool:
        """Whether a run of these is the study, maybe stopped after some of its rounds; else it is
        another sweep in the same folder."""
        named = set(variants)
        ends = accumulate((set(names) for names in self.rounds), or_, initial=set[str]())
        return any(named == end for end in ends)

    def keep(self, folder: Path) -> None:
        keep_value(folder / FILE, self)


def noted(folder: Path) -> Noted | None:
    """None of a run that is no study.

    Raises ``UserError`` where the file is no such thing.
    """
    found = kept_value(folder / FILE, Noted, "describe a study")
    for number, one in enumerate(found.parts if found else ()):
        if one.parent is not None and not 0 <= one.parent < number:
            raise UserError(
                f"{folder / FILE} does not describe a study: a part is inside of none before it"
            )
    return found

"""How much a study may cost: time, or image passes."""

import math
import re
from dataclasses import dataclass

from ablate_kit.errors import UserError
from ablate_kit.plural import roughly

_UNITS = {"s": 1, "m": 60, "h": 3600}
_TEXT = re.compile(
    r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,3})?) ?(?P<unit>s|m|h|(?:image )?(?:passes|pass))"
)
_GROUPED = re.compile(r"(?<=[0-9]),(?=[0-9]{3})")  # as budgets are shown


@dataclass(frozen=True)
class Budget:
    """Seconds of wall time, or passes, each of one variant over one image; one of the two."""

    seconds: float | None = None
    passes: int | None = None

    def __str__(self) -> str:
        if self.passes is not None:
            return f"{self.passes:,} image passes"
        seconds = self.seconds or 0.0
        unit = next(name for name in ("h", "m", "s") if seconds % _UNITS[name] == 0 or name == "s")
        return f"{seconds / _UNITS[unit]:g}{unit}"

    def rounded_up(self) -> "Budget":
        """To a number that one would give."""
        if self.passes is not None:
            return Budget(passes=roughly(self.passes))
        seconds = self.seconds or 0.0
        step = next((x for most, x in _STEPS if seconds <= most), 3600)
        return Budget(seconds=math.ceil(seconds / step) * step)

    def covers(self, other: "Budget") -> bool:
        """Whether it is the same and no less; time and passes cannot be compared."""
        if (self.passes is None) != (other.passes is None):
            return False
        return (self.passes or self.seconds or 0.0) >= (other.passes or other.seconds or 0.0)


_STEPS = ((120, 10), (3600, 60), (36_000, 600))  # of seconds, up to so many


def parse_budget(text: str) -> Budget:
    """Of ``60s``, ``10m``, ``2h`` or ``500 passes``.

    Raises ``UserError`` for anything else.
    """
    match = _TEXT.fullmatch(_GROUPED.sub("", text.strip()))
    if match is None:
        shown = text[:60]
        raise UserError(f'cannot read the budget "{shown}"; expected 60s, 10m, 2h or 500 passes')
    if float(match["number"]) == 0:
        raise UserError(f'a budget of "{text[:60]}" is none; expected more, such as 60s or 10m')
    if match["unit"] not in _UNITS:
        return Budget(passes=int(float(match["number"])))
    return Budget(seconds=float(match["number"]) * _UNITS[match["unit"]])

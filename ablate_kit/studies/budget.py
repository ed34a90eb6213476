"""How much a study may cost: time, or image passes."""

import re
from dataclasses import dataclass

from ablate_kit.errors import UserError

_UNITS = {"s": 1, "m": 60, "h": 3600}
_TEXT = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,3})?) ?(?P<unit>s|m|h|passes|pass)")


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


def parse_budget(text: str) -> Budget:
    """Of ``60s``, ``10m``, ``2h`` or ``500 passes``.

    Raises ``UserError`` for anything else.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        shown = text[:60]
        raise UserError(f'cannot read the budget "{shown}"; expected 60s, 10m, 2h or 500 passes')
    if float(match["number"]) == 0:
        raise UserError(f'a budget of "{text[:60]}" is none; expected more, such as 60s or 10m')
    if match["unit"].startswith("pass"):
        return Budget(passes=int(float(match["number"])))
    return Budget(seconds=float(match["number"]) * _UNITS[match["unit"]])

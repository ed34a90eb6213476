"""What every logger offers."""

from collections.abc import Mapping, Sequence
from typing import Protocol

Cell = str | float | None


class Logger(Protocol):
    """Takes the numbers of one run; made by ``open_loggers``."""

    def scalars(self, values: Mapping[str, float], at: int, axis: str) -> None:
        """Numbers by name, ``at`` a place of an axis: step, epoch or variant."""

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table; None is no value."""

    def close(self) -> None:
        """The run has ended, or was stopped; nothing is logged after it."""

"""The records of a COCO file, column by column: every value is parsed to its type, or told."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from detector.data.dataset import Flags, Floats, Integers
from detector.data.formats.fields import LARGEST, Tell, mark, number, shown, whole
from detector.errors import UserError

MALFORMED = "malformed annotation"

T = TypeVar("T")


class Records:
    """The records of one of the three lists, and which of them are believed so far."""

    def __init__(self, document: Mapping[str, Any], key: str, path: Path, tell: Tell) -> None:
        found = document[key]
        if not found and key != "annotations":
            raise UserError(f"{path}: no {key} in it")
        self.key, self.path, self._tell = key, path, tell
        self.good = np.ones(len(found), dtype=np.bool_)
        self.rows: list[dict[str, Any]] = found
        if not set(map(type, found)) <= {dict}:
            self.rows = [row if isinstance(row, dict) else {} for row in found]
            for place, row in enumerate(found):
                if not isinstance(row, dict):
                    self.reject(place, MALFORMED, f"{self.key}[{place}] is not an object")

    def where(self, place: int) -> str:
        """Such as ``annotations[17] (id 18)``."""
        known = self.rows[place].get("id")
        suffix = f" (id {shown(known)})" if known is not None else ""
        return f"{self.key}[{place}]{suffix}"

    def reject(self, place: int, kind: str, message: str) -> None:
        self._tell(kind, f"{self.path}: {message}")
        self.good[place] = False

    def reject_value(self, place: int, field: str, expected: str, kind: str = MALFORMED) -> None:
        row = self.rows[place]
        if not row:
            if self.good[place]:
                self.reject(place, kind, f"{self.key}[{place}] is empty")
            return
        found = "is missing" if row.get(field) is None else f"is {shown(row[field])}"
        self.reject(place, kind, f'"{field}" of {self.where(place)} {found}; expected {expected}')

    def column(
        self,
        field: str,
        parse: Callable[[object], T | None],
        fill: T,
        expected: str,
        *,
        optional: bool = False,
    ) -> list[T]:
        """A value of every record; ``fill`` where an optional one is missing, or one is bad."""
        values = []
        for place, row in enumerate(self.rows):
            found = row.get(field)
            value = parse(found)
            if value is None and not (found is None and optional):
                self.reject_value(place, field, expected)
            values.append(fill if value is None else value)
        return values

    def integers(self, field: str) -> Integers:
        values: list[Any] = [row.get(field) for row in self.rows]
        if set(map(type, values)) != {int} or not -(2**63) <= min(values) <= max(values) < 2**63:
            values = self.column(field, whole, 0, "a whole number of 64 bits")
        return np.array(values, dtype=np.int64)

    def ids(self) -> Integers:
        """The id of every record; each belongs to the first that has it."""
        found = self.integers("id")
        order = np.argsort(found, kind="stable")
        for place in np.sort(order[1:][found[order[1:]] == found[order[:-1]]]):
            if self.good[place]:
                self.reject(place, "duplicate", f"two {self.key} have the id {found[place]}")
        return found

    def references(self, field: str, others: "Records", ids: Integers, what: str) -> Integers:
        """The place of the record of ``others`` that each record names."""
        named = self.integers(field)
        order = np.argsort(ids, kind="stable")
        places = order[np.minimum(np.searchsorted(ids, named, sorter=order), len(ids) - 1)]
        kind = "unknown class" if what == "category" else MALFORMED
        for place in np.flatnonzero(ids[places] != named).tolist():
            if whole(self.rows[place].get(field)) is not None:  # else that was told
                problem = f"is {named[place]}, which no {what} has"
                self.reject(place, kind, f'"{field}" of {self.where(place)} {problem}')
        return places

    def areas(self) -> Floats:
        """NaN where there is none; none below zero, which evaluations leave out unsaid."""
        values = [row.get("area") for row in self.rows]
        if set(map(type, values)) <= {int, float}:
            try:
                column = np.array(values, dtype=np.float64)
            except OverflowError:
                column = np.array([np.nan])
            if ((column >= 0) & (column < LARGEST)).all():  # NaN is neither
                return column
        values = self.column("area", _area, np.nan, "square pixels", optional=True)
        return np.array(values, dtype=np.float64)

    def marks(self, field: str) -> Flags:
        values = [row.get(field, 0) for row in self.rows]
        if set(map(type, values)) != {int} or not set(values) <= {0, 1}:
            values = self.column(field, mark, False, "0 or 1")
        return np.array(values, dtype=np.bool_)


def _area(value: object) -> float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None

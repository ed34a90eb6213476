"""Columns read from rows of JSON, and the checks that every column store makes."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate_kit.errors import UserError, did_you_mean
from ablate_kit.metrics.boxes import Floats

Ints = NDArray[np.integer[Any]]
Rows = Sequence[Mapping[str, Any]]

# Of coordinates, which are added and multiplied: no result leaves the range of float32.
LARGEST = 1e18


def values(rows: Rows, key: str, where: str, first: int = 0) -> list[Any]:
    """One value of every row; ``first`` is the number of the first one, for messages."""
    try:
        return [row[key] for row in rows]
    except (KeyError, TypeError):
        at = next(i for i, row in enumerate(rows) if not (isinstance(row, Mapping) and key in row))
        if not isinstance(rows[at], Mapping):
            problem = f"must be an object, got {type(rows[at]).__name__}"
        else:
            problem = f'has no "{key}"' + did_you_mean(key, rows[at])
        raise UserError(f"{where}[{first + at}] {problem}") from None


def numbers(
    rows: Rows,
    key: str,
    where: str,
    shape: tuple[int, ...] = (),
    *,
    first: int = 0,
    finite: bool = True,
) -> NDArray[np.float64]:
    """(n, *shape) numbers; finite ones, unless the caller looks at that."""
    found = values(rows, key, where, first)
    if not found:
        return np.empty((0, *shape))
    column = _column(found, (len(found), *shape))
    if column is None:
        at = next(i for i, value in enumerate(found) if _column(value, shape) is None)
        expected = f"a list of {shape[0]} numbers" if shape else "a number"
        raise UserError(f'{where}[{first + at}]: "{key}" must be {expected}, got {found[at]!r:.80}')
    if finite:
        check_finite(where, key, column)
    return column


def _column(value: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The numbers of a list of such a shape; None where it is of another, or not all are numbers.

    True and false are none: NumPy would read 1 and 0.
    """
    try:
        column = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if column.shape != shape:
        return None
    flat = value if shape else [value]
    for _ in shape[1:]:
        flat = chain.from_iterable(flat)
    return None if bool in set(map(type, flat)) else column


def integers(rows: Rows, key: str, where: str, first: int = 0) -> NDArray[np.int64]:
    """(n,) integers; a whole float such as 1.0 is one."""
    found = values(rows, key, where, first)
    if set(map(type, found)) == {int} and max(map(abs, found)) < 2**63:
        return np.array(found, dtype=np.int64)
    for at, value in enumerate(found):
        whole = type(value) is int or (isinstance(value, float) and value.is_integer())
        if not whole or abs(value) >= 2**63:
            raise UserError(f'{where}[{first + at}]: "{key}" must be an integer, got {value!r:.80}')
    return np.array(found, dtype=np.int64)


def position(ids: Ints, known: Ints) -> NDArray[np.int64]:
    """Position of each of ``ids`` in ``known``; -1 for one that is not there."""
    order = np.argsort(known, kind="stable")
    at = order[np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)]
    return np.where(known[at] == ids, at, -1)


def index_of(ids: Ints, known: Ints, where: str, what: str) -> NDArray[np.int64]:
    """Position of each of ``ids`` in ``known``, where all are."""
    found = position(ids, known)
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        at, name = unknown[0], str(ids[unknown[0]])
        raise UserError(
            f"{where}[{at}]: {what} {name} is not one of the {len(known)} of the ground truth"
            + did_you_mean(name, map(str, known.tolist()))
        )
    return found


def check_column(
    where: str, name: str, values: NDArray[Any], kinds: str, shape: tuple[int, ...]
) -> None:
    if values.dtype.kind not in kinds or values.shape != shape:
        expected = {"iu": "integers", "f": "floats", "b": "booleans"}[kinds]
        raise UserError(
            f"{where}: {name} must be {expected} of shape {shape}, "
            f"got {values.dtype} of shape {values.shape}"
        )
    if kinds == "f":
        check_finite(where, name, values)


def check_boxes(where: str, boxes: Floats, sizes: Floats | None, n: int) -> None:
    check_column(where, "boxes", boxes, "f", (n, 4))
    if sizes is not None:
        check_column(where, "sizes", sizes, "f", (n, 2))


def check_finite(where: str, name: str, values: Floats) -> None:
    good = np.isfinite(values)
    if not good.all():
        at = int(np.argwhere(~good)[0, 0])
        raise UserError(f"{where}[{at}]: {name} is not finite: {values[at].tolist()}")


def check_range(where: str, what: str, index: Ints, size: int | None) -> None:
    bad = np.flatnonzero((index < 0) | (False if size is None else index >= size))
    if len(bad):
        expected = "0 or more" if size is None else f"0 to {size - 1}"
        raise UserError(f"{where}[{bad[0]}]: {what} index {index[bad[0]]}; expected {expected}")


def check_unique(where: str, what: str, values: NDArray[Any]) -> None:
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < len(values):
        raise UserError(f"{where}: {what} {distinct[counts > 1][0]} occurs more than once")

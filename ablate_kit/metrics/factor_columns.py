"""What variants are about, as columns of a table."""

from collections.abc import Sequence

from ablate_kit.metrics.result import Result

Factor = str | int | float


def factor_columns(results: Sequence[Result]) -> dict[str, list[Factor | None]]:
    """Every factor that any variant has, with the value of each or None: all of them whole numbers,
    all numbers, or all text, which it is where kinds are mixed."""
    names = dict.fromkeys(name for one in results for name in one.factors)
    return {name: _of_one_kind([one.factors.get(name) for one in results]) for name in names}


def _of_one_kind(values: Sequence[Factor | None]) -> list[Factor | None]:
    known = [value for value in values if value is not None]
    if all(isinstance(value, int) and abs(value) < 2**63 for value in known):
        return list(values)
    # Of whole numbers those that a float holds, nearly.
    numbers = all(
        isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)
        for value in known
    )
    return [None if value is None else float(value) if numbers else str(value) for value in values]

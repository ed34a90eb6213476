"""Numbers as the cells of tables."""


def number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def half_width(low: float | None, high: float | None, form: str = ".4f") -> str:
    """Of an interval."""
    return number(None if low is None or high is None else (high - low) / 2, form)

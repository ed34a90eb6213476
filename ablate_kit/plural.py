"""How many there are of something, in words and in round numbers. A leaf."""

from collections.abc import Sequence


def counted(count: int, noun: str, several: str = "") -> str:
    """``1 image``, ``2,000 images``; ``several``: a plural that is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"


def first_few(names: Sequence[str], shown: int, apart: str = ", ") -> str:
    """``a, b, c and 5 more``."""
    more = len(names) - shown
    return apart.join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def roughly(count: float) -> int:
    """To two digits, upwards: what is known of a number of images that would decide."""
    digit = 10 ** max(0, len(str(int(count))) - 2)
    return int(-(-count // digit) * digit)

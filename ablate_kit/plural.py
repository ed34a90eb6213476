"""How many there are of something, in words. A leaf."""

from collections.abc import Sequence


def counted(count: int, noun: str, several: str = "") -> str:
    """``1 image``, ``2,000 images``; ``several``: a plural that is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"


def first_few(names: Sequence[str], shown: int, apart: str = ", ") -> str:
    """``a, b, c and 5 more``."""
    more = len(names) - shown
    return apart.join(names[:shown]) + (f" and {more} more" if more > 0 else "")

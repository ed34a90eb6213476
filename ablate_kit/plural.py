"""How many there are of something, and how long it takes, in words and round numbers. A leaf."""

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


def duration(seconds: float) -> str:
    """``1:02:03``, ``2:03``, ``12 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    clock = f"{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
    return f"{hours}:{clock}" if hours else clock

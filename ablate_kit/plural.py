"""How many there are of something, in words. A leaf."""


def counted(count: int, noun: str, several: str = "") -> str:
    """``1 image``, ``2,000 images``; ``several``: a plural that is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"

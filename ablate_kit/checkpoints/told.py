"""What opening a checkpoint has to say that is no error: which commit, which of several weights.

Nobody is told unless a command asks for it, and each thing once.
"""

from collections.abc import Callable

_tell: Callable[[str], None] = lambda _: None  # noqa: E731 - replaced as a whole
_told: set[str] = set()


def tell_with(tell: Callable[[str], None]) -> None:
    """Who is told from here on."""
    global _tell
    _tell = tell
    _told.clear()


def tell(note: str) -> None:
    if note not in _told:
        _told.add(note)
        _tell(note)

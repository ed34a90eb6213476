"""What lies in a folder, without what nobody put there: hidden files, and what macOS leaves."""

import re
from pathlib import Path

# The Finder's view of a folder, what a file has on a Mac beside its bytes, and where archives keep
# that.
_OF_MACOS = re.compile(r"\.DS_Store|\._.*|__MACOSX", re.DOTALL)


def is_of_macos(name: str) -> bool:
    return _OF_MACOS.fullmatch(name) is not None


def is_hidden(name: str) -> bool:
    """As notebooks' ``.ipynb_checkpoints``, too."""
    return name.startswith(".") or is_of_macos(name)


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """What fits a pattern in ``folder``, sorted; nothing hidden, and nothing in what is hidden."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(map(is_hidden, path.relative_to(folder).parts))
    )

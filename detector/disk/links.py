"""A link stands for the file that it points to, and for what lies beside that file."""

from pathlib import Path


def beside(path: Path, name: str) -> Path:
    """What a file means by a name: in its own folder, or else, of a link, in that of its file."""
    here = path.parent / name
    if here.exists() or not path.is_symlink():
        return here
    there = path.resolve().parent / name
    return there if there.exists() else here

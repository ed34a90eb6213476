"""What a user can mend, and how it is told.

``UserError`` heads the one family of such errors, in the detector and in what builds on it. What is
raised besides is a failure of a program, ours or another's: it keeps its class and its traceback,
also where a user's input was at work when it happened. Only files that the system refuses and
memory that runs out are told like a mistake, by the command line.
"""

import os
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something the user gave is wrong; the message is the whole story, in one line.

    It says what was given, where, what was expected and, where there is one, the nearest valid
    name. The command line prints it and exits with code 2; it never shows a traceback.
    """


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``'; did you mean "..."?'`` for the candidate nearest to ``name``, or an empty string.

    Where ``name`` is the beginning of some ("train" of "train_images"), for up to three of those.
    None is near a number: 70 is no misspelled 7.
    """
    from difflib import get_close_matches  # seldom needed, and slower to import than all else here

    known = [] if name.lstrip("-").isdecimal() else list(dict.fromkeys(candidates))
    near = [f'"{one}"' for one in known if name and one.startswith(f"{name}_")][:3] or [
        f'"{one}"' for one in get_close_matches(name, known, n=1, cutoff=0.6)
    ]
    *others, last = near or [""]
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?" if last else ""


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """``did_you_mean``; where nothing is near, what there is."""
    known = list(known)
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return did_you_mean(name, known) or f"; there are {', '.join(known[:12])}{more}"


def check_can_write(path: Path) -> None:
    """Raises ``UserError`` where something is at the place of what is to be written, or nothing can
    be: what is written may take hours to find out."""
    if path.exists():
        raise UserError(f"{path} exists; choose another place or remove it")
    there = next(one for one in path.absolute().parents if one.exists())
    if not there.is_dir():
        raise UserError(f"cannot write {path}: {there} is a file, and a folder is needed")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: nothing can be written in {there}")


def no_folder(path: Path, expected: str) -> UserError:
    """That a folder is not there, or that a file is: two options may be swapped."""
    what = "a file, no folder" if path.is_file() else "no such folder"
    return UserError(f"{path}: {what}; {expected}")

"""The one error type for mistakes a user can mend."""

from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave is wrong; the message is the whole story, in one line.

    It says what was given, where, what was expected and, where there is one, the nearest valid
    name. The command line prints it and exits with code 2; it never shows a traceback.
    """


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``'; did you mean "..."?'`` for the candidate nearest to ``name``, or an empty string."""
    from difflib import get_close_matches  # seldom needed, and slower to import than all else here

    near = get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""

"""What a stranger's regular expression finds in a stranger's texts, within a limit of time.

Python tries all the ways in which an expression may match, which can be more than there are atoms,
and holds the interpreter meanwhile. So this file runs by itself in a process that can be ended; it
imports nothing but the standard library, for that is what the process waits for.
"""

import json
import re
import subprocess
import sys

# Ordinary expressions take a millionth of that for a file name.
SECONDS = 60.0


class NoGroupError(Exception):
    """An expression that tells nothing of where it is found."""


def groups_found(expression: str, texts: list[str], seconds: float = SECONDS) -> list[list[str]]:
    """What each group holds where ``expression`` is first found, "" for a group that took no part;
    an empty list for a text in which it is not found.

    Raises:
        ValueError: no regular expression; and why.
        NoGroupError: it has no group.
        TimeoutError: it takes more than ``seconds``.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this very file
            [sys.executable, "-I", "-S", __file__],
            input=json.dumps([expression, texts]), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, check=False, timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    if done.returncode:  # such as by a signal, where memory ends
        raise ValueError("it cannot be tried")
    found = json.loads(done.stdout)
    if isinstance(found, str):
        raise ValueError(found) if found else NoGroupError
    groups: list[list[str]] = found
    return groups


def _found(expression: str, texts: list[str]) -> list[list[str]] | str:
    try:
        pattern = re.compile(expression)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    if not pattern.groups:
        return ""
    matches = map(pattern.search, texts)
    return [[part or "" for part in one.groups()] if one else [] for one in matches]


if __name__ == "__main__":
    json.dump(_found(*json.load(sys.stdin)), sys.stdout)

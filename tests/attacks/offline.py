"""Evaluates folders in a process that may open no socket: ``offline.py ANNOTATIONS FOLDER ...``.

Prints a JSON object: for every folder "evaluated" or what was refused.
"""

import contextlib
import io
import json
import sys

SOCKETS: list[str] = []


def watch(event: str, args: tuple[object, ...]) -> None:
    if event.startswith("socket."):
        SOCKETS.append(f"{event} {args[1:]!r}"[:200])
        raise PermissionError(f"a socket: {event}")


def outcome(annotations: str, folder: str) -> str:
    from ablate_kit.cli.app import app
    from ablate_kit.errors import UserError

    words = ["eval", folder, "--annotations", annotations, "--images", annotations + ".images"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            app(words)([*words, "--resamples", "0"], standalone_mode=False)
        except UserError as error:
            return str(error)
    return "evaluated"


if __name__ == "__main__":
    sys.addaudithook(watch)
    found = {folder: outcome(sys.argv[1], folder) for folder in sys.argv[2:]}
    json.dump({"sockets": SOCKETS, "found": found}, sys.stdout)

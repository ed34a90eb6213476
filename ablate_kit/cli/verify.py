"""``ablate verify``: whether a checkpoint is what its receipt says."""

from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.cli.output import print_json, say

_WORDS = {True: "ok", False: "WRONG", None: "unknown"}


def verify(
    checkpoint: Annotated[Path, typer.Argument(help="A file or folder that ablate wrote.")],
    base: Annotated[
        Path | None, typer.Option(help="The original; by default where it was.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Hold a changed copy against its receipt; exit code 1 if it is not what that says."""
    from ablate_kit.ablations.verify import verify as verified

    checks = verified(checkpoint, base=base)
    if as_json:
        print_json([{"check": c.name, "passed": c.passed, "detail": c.detail} for c in checks])
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            say(f"{check.name:{width}}  {_WORDS[check.passed]:7}  {check.detail}")
    if any(check.passed is False for check in checks):
        raise typer.Exit(1)

"""``ablate verify``: whether a checkpoint is what its receipt says."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ablate_kit.cli.common_options import Download
from ablate_kit.cli.output import print_json, say
from ablate_kit.errors import UserError

_WORDS = {True: "ok", False: "WRONG", None: "unknown"}


def verify(
    checkpoint: Annotated[Path, Argument(help="A file or folder that ablate wrote.")],
    base: Annotated[Path | None, Option(help="The original; by default where it was.")] = None,
    source: Annotated[
        Path | None, Option("--from", help="A graft's other file; by default where it was.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the checks as JSON.")] = False,
    allow_download: Download = False,
) -> None:
    """Check a changed copy against its receipt; exit code 1 if it is not what that says."""
    from ablate_kit.ablations.receipt import receipt_of
    from ablate_kit.ablations.verify_receipt import verify as verified
    from ablate_kit.checkpoints import open_checkpoint

    with open_checkpoint(checkpoint) as opened:
        receipt = receipt_of(opened)
    if receipt is None:
        raise UserError(f"{checkpoint} has no receipt, inside or beside it")
    if source and receipt.operation != "graft":
        raise UserError(f"--from goes with the receipt of a graft; {checkpoint}'s is of none")
    with open_checkpoint(
        checkpoint, receipt.weights or None if receipt.ablation else None
    ) as opened:
        checks = list(verified(opened, receipt, base))
    if receipt.operation == "shrink":
        from ablate_kit.shrinking.smaller_checkpoint import verify_smaller

        checks.append(verify_smaller(receipt, base))
    elif not receipt.ablation:
        from ablate_kit.models.rewriting.write_again import verify_rewrite

        checks.append(verify_rewrite(receipt, base, source))
    if as_json:
        print_json([{"check": c.name, "passed": c.passed, "detail": c.detail} for c in checks])
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            say(f"{check.name:{width}}  {_WORDS[check.passed]:7}  {check.detail}")
    if any(check.passed is False for check in checks):
        raise typer.Exit(1)

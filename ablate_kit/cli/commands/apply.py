"""``ablate apply``: a variant made again from its receipt."""

from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.cli.output import DryRun, say, say_lines
from ablate_kit.errors import UserError


def apply(
    base: Annotated[Path, typer.Argument(help="The original file or folder.")],
    receipt: Annotated[
        Path, typer.Argument(help="The variant's receipt, or a file that carries it.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File (or folder) to write.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="A graft's other file; by default where it was.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Recreate a variant from the original and its receipt, bit for bit."""
    from ablate_kit.ablations.receipt import read_receipt
    from ablate_kit.ablations.variant_files import check_base, check_free, recreate
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.reports.dry_run import plan

    told = read_receipt(receipt)
    if source and told.operation != "graft":
        raise UserError(f"--from goes with the receipt of a graft; {receipt} is of none")
    with open_checkpoint(base, told.weights or None) as opened:
        if told.ablation:
            if dry_run:
                check_free(opened, {output: told.ablation})
                check_base(opened, told)
                say_lines(plan(opened, {output: told.ablation}))
                return
            recreate(opened, told, output)
        else:
            from ablate_kit.models import rewrite

            if dry_run:
                check_base(opened, told)
                say(f"dry run: nothing written; ablate {told.operation} would be repeated: "
                    f"{told.settings_text}")  # fmt: skip
                return
            rewrite.recreate(opened, told, output, source)
    say(f"{output}  SHA-256 {told.output}, as the receipt says")

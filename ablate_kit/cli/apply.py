"""``ablate apply``: a variant made again from its receipt."""

from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.cli.output import DryRun, say


def apply(
    base: Annotated[Path, typer.Argument(help="The original file or folder.")],
    receipt: Annotated[Path, typer.Argument(help="The .ablation.json of the variant.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File (or folder) to write.")],
    dry_run: DryRun = False,
) -> None:
    """Recreate a variant from the original and its receipt, bit for bit."""
    from ablate_kit.ablations.receipt import read_receipt
    from ablate_kit.ablations.write import check_base, check_free, recreate
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.reports.plan import plan

    told = read_receipt(receipt)
    with open_checkpoint(base, told.weights or None) as opened:
        if dry_run:
            check_free(opened, {output: told.ablation})
            check_base(opened, told)
            say(plan(opened, {output: told.ablation}))
            return
        recreate(opened, told, output)
    say(f"{output}  SHA-256 {told.output}, as the receipt says")

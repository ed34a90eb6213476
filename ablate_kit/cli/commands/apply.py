"""``ablate apply``: a variant made again from its receipt."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ablate_kit.cli.common_options import Download, DryRun, output_to
from ablate_kit.cli.output import say, say_lines
from ablate_kit.errors import UserError


def apply(
    base: Annotated[Path, Argument(help="The original file or folder.")],
    receipt: Annotated[Path, Argument(help="The variant's receipt, or a file that carries it.")],
    output: Annotated[Path, output_to("File (or folder) to write.")],
    source: Annotated[
        Path | None, Option("--from", help="A graft's other file; by default where it was.")
    ] = None,
    dry_run: DryRun = False,
    allow_download: Download = False,
) -> None:
    """Recreate a variant from the original and its receipt, bit for bit."""
    from ablate_kit.ablations.receipt import read_receipt
    from ablate_kit.ablations.variant_files import check_base, check_free, recreate
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.reports.checkpoint_reports.dry_run import plan

    content = read_receipt(receipt)
    if source and content.operation != "graft":
        raise UserError(f"--from goes with the receipt of a graft; {receipt} is of none")
    with open_checkpoint(base, content.weights or None) as opened:
        ablation = content.ablation
        if dry_run:
            if ablation:
                check_free(opened, {output: ablation})
            check_base(opened, content)
            if ablation:
                say_lines(plan(opened, {output: ablation}))
                return
            how = "" if content.operation == "shrink" else f": {content.settings_text}"
            say(f"dry run: nothing written; ablate {content.operation} would be repeated{how}")
            return
        if ablation:
            recreate(opened, content, output)
        elif content.operation == "shrink":
            from ablate_kit.shrinking import smaller_checkpoint

            smaller_checkpoint.recreate(opened, content, output)
        else:
            from ablate_kit.models.rewriting.write_again import write_again

            write_again(opened, content, output, source)
    say(f"{output}  SHA-256 {content.output}, as the receipt says")

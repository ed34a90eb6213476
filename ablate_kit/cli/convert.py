"""``ablate convert``: notebook checkpoints of the hybrid detector to ours, and back."""

from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.cli.output import DryRun, check_new_file, say


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Of the hybrid detector or the notebooks.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .safetensors or .pth file to write.")
    ],
    to_legacy: Annotated[
        bool, typer.Option("--to-legacy", help="Write the notebooks' names (a .pth file).")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="Which weights of the file, if it holds several.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Rewrite a checkpoint under our names, or the thesis notebooks'."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.convert import converted
    from ablate_kit.models.rewrite import convert as write_converted

    check_new_file(output, *((".pth",) if to_legacy else (".safetensors", ".pth")))
    with open_checkpoint(checkpoint, weights) as opened:
        if dry_run:
            only = output.suffix != ".pth"
            done = converted(opened, to_legacy=to_legacy, tensors_only=only)
        else:
            done = write_converted(opened, output, to_legacy=to_legacy)
    say(f"{output}  {done.renamed} of {done.tensors} tensors renamed")
    if done.kept:
        say(f"kept: {', '.join(done.kept)}")
    if done.dropped:
        say(f"dropped: {', '.join(done.dropped)}")
    if dry_run:
        say("dry run: nothing written")

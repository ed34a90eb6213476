"""``ablate convert``: notebook checkpoints of the hybrid detector to ours, and back."""

from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.cli.output import check_new_file, say


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
) -> None:
    """Rewrite a checkpoint under our names, or the thesis notebooks'."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.models.rewrite import convert as converted

    check_new_file(output, *((".pth",) if to_legacy else (".safetensors", ".pth")))
    with open_checkpoint(checkpoint, weights) as opened:
        done = converted(opened, output, to_legacy=to_legacy)
    say(f"{output}  {done.renamed} of {done.tensors} tensors renamed")
    if done.kept:
        say(f"kept: {', '.join(done.kept)}")
    if done.dropped:
        say(f"dropped: {', '.join(done.dropped)}")

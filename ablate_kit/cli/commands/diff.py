"""``ablate diff``: what two checkpoints have in common."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from ablate_kit.cli.common_options import Download
from ablate_kit.cli.output import print_json, say_lines
from ablate_kit.errors import UserError

By = Literal["headers", "digests", "values"]
_COMPARED = {
    "headers": "name, shape and type (values not compared; see --by)",
    "digests": "bytes",
    "values": "bytes",
}


def diff(
    first: Annotated[Path, Argument(help="A file, or a Hugging Face folder.")],
    second: Annotated[Path, Argument(help="Another.")],
    pattern: Annotated[str, Argument(help="Names to compare, in both.")] = "**",
    by: Annotated[
        By, Option(help="Names, shapes and types; bytes too; or by how much values differ.")
    ] = "headers",
    weights: Annotated[
        str | None, Option(help="Which weights of the first, if it holds several.")
    ] = None,
    other_weights: Annotated[
        str | None, Option(help="Which weights of the second, if it holds several.")
    ] = None,
    json_output: Annotated[bool, Option("--json", help="Print the difference as JSON.")] = False,
    allow_download: Download = False,
) -> None:
    """Compare two checkpoints. Exit code 1 if they differ, 0 if not."""
    from ablate_kit.ablations.name_patterns import Pattern
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.checkpoints.compare import BY
    from ablate_kit.reports.checkpoint_reports.checkpoint_diff import as_json, text

    wanted = Pattern(pattern)
    with (
        open_checkpoint(first, weights, listing=True) as a,
        open_checkpoint(second, other_weights, listing=True) as b,
    ):
        names = [[name for name in one.tensors if wanted.match(name)] for one in (a, b)]
        if not names[0] and not names[1]:
            raise UserError(f'no tensor matches "{pattern}" in {a} or {b}')
        found = BY[by](a, b, *names)
        if json_output:
            print_json(as_json(found))
        else:
            say_lines(text(found, a.tensors, b.tensors, _COMPARED[by]))
    if found.differs:
        raise typer.Exit(1)

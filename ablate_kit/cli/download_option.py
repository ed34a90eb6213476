"""The option that lets a command fetch a checkpoint from the hub."""

import sys
from typing import Annotated

import typer

from ablate_kit import text as safe


def _take(allowed: bool) -> bool:
    """Before any checkpoint is opened; the parameter of the commands is for ``--help``."""
    from ablate_kit.checkpoints import hub
    from ablate_kit.checkpoints.told import tell_with

    tell_with(lambda note: print(safe.line(note), file=sys.stderr))  # noqa: T201
    hub.allow_downloads(allowed)
    return allowed


Download = Annotated[
    bool,
    typer.Option(
        "--allow-download",
        help="Fetch a checkpoint hf:OWNER/NAME from the Hugging Face hub.",
        callback=_take,
        is_eager=True,
    ),
]

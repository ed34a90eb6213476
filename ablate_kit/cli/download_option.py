"""The option that lets a command fetch a checkpoint from the hub."""

from typing import Annotated

import typer

from ablate_kit.cli.output import hear


def _take(allowed: bool) -> bool:
    """Before any checkpoint is opened; the parameter of the commands is for ``--help``."""
    from ablate_kit.checkpoints import hub

    hear()
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

"""The options that say what the model of a checkpoint is."""

from pathlib import Path
from typing import Annotated

import typer

from ablate_kit.models.framework_registry import OWN, USAGE

Model = Annotated[
    str | None,
    typer.Option("--model", help=f"{USAGE} or {OWN}; told from the checkpoint by default."),
]
ClassNames = Annotated[
    Path | None,
    typer.Option(help="Names of the model's classes, one to a line, in its outputs' order."),
]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let a folder or config run its code.")
]

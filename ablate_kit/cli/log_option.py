"""The option ``--log``, which commands that run for long share."""

from typing import Annotated

import typer

Log = Annotated[
    str | None,
    typer.Option("--log", help="Where numbers go, too: tensorboard, wandb, mlflow; or several."),
]


def with_log(settings: list[str] | None, log: str | None) -> list[str]:
    """The changes to a training recipe, the option's among them."""
    from detector.loggers.open_loggers import named_loggers

    own = [] if log is None else [f"training.log=[{', '.join(named_loggers(log))}]"]
    return [*(settings or []), *own]

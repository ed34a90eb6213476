"""The option ``--log``, which commands that run for long share."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from detector.loggers.open_loggers import LoggerName

Log = Annotated[
    str | None,
    typer.Option("--log", help="Where numbers go, too: tensorboard, wandb, mlflow; or several."),
]


def loggers_of(log: str | None) -> "list[LoggerName]":
    """Those that the option names; raises ``UserError`` for a name of none."""
    from detector.loggers.open_loggers import named_loggers

    return [] if log is None else named_loggers(log)


def with_log(settings: list[str] | None, log: str | None) -> list[str]:
    """The changes to a training recipe, the option's among them."""
    own = [] if log is None else [f"training.log=[{', '.join(loggers_of(log))}]"]
    return [*(settings or []), *own]

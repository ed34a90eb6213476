"""Options that several commands have, word for word."""

from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from ablate_kit.cli.output import hear

if TYPE_CHECKING:
    from detector.loggers.open_loggers import LoggerName


def _take(allowed: bool) -> bool:
    """Before any checkpoint is opened; the parameter of the commands is for ``--help``."""
    from ablate_kit.checkpoints import hub

    hear()
    hub.allow_downloads(allowed)
    return allowed


def output_to(what: str) -> Any:
    """The option for the place of what a command writes."""
    return Option("-o", "--output", help=what)


def set_option(example: str) -> Any:
    """The option that changes keys of a recipe."""
    return Option("--set", help=f"Change the recipe: {example}.")


BatchSize = Annotated[int, Option(help="Images that run at once.", min=1)]
Device = Annotated[str, Option(help="cpu, cuda, cuda:1 ...")]
Download = Annotated[
    bool,
    Option(
        "--allow-download",
        help="Fetch a checkpoint hf:OWNER/NAME from the Hugging Face hub.",
        callback=_take,
        is_eager=True,
    ),
]
DryRun = Annotated[
    bool, Option("--dry-run", help="Print what would be changed, and write nothing.")
]
Log = Annotated[
    str | None, Option("--log", help="Loggers of the run: tensorboard, wandb, mlflow, or several.")
]
NoReplay = Annotated[bool, Option("--no-replay", help="Run the whole network for every variant.")]
NumHeads = Annotated[
    int | None, Option(help="Heads of each module, where its configuration does not tell.", min=1)
]
PlanOnly = Annotated[
    bool, Option("--dry-run", help="Print the plan and its cost; evaluate nothing.")
]
Repeats = Annotated[int, Option(help="Independent random draws per percentage.", min=1)]
Resume = Annotated[bool, Option("--resume", help="Go on with an earlier run.")]
SEED = 42
Seed = Annotated[int, Option(help="Seed of the random draws.")]
TrainingSettings = Annotated[list[str] | None, set_option("training.lr=0.001")]
Weights = Annotated[str | None, Option(help="Which of the file's weights, where it holds several.")]


def loggers_of(log: str | None) -> "list[LoggerName]":
    """Those that the option names; raises ``UserError`` for a name of none."""
    from detector.loggers.open_loggers import named_loggers

    return [] if log is None else named_loggers(log)


def with_log(settings: list[str] | None, log: str | None) -> list[str]:
    """The changes to a training recipe, the option's among them."""
    own = [] if log is None else [f"training.log=[{', '.join(loggers_of(log))}]"]
    return [*(settings or []), *own]

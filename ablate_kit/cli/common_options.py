"""Options that several commands have, word for word."""

from typing import Annotated

import typer

BatchSize = Annotated[int, typer.Option(min=1)]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be changed, and write nothing.")
]
NoReplay = Annotated[
    bool, typer.Option("--no-replay", help="Run the whole network for every variant.")
]
NumHeads = Annotated[
    int | None, typer.Option(help="Heads of a module, if its config does not tell.", min=1)
]
PlanOnly = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and its cost; evaluate nothing.")
]
Repeats = Annotated[int, typer.Option(help="Independent random draws per percentage.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an earlier run.")]
Seed = Annotated[int, typer.Option(help="Of the random draws.")]
TrainingSettings = Annotated[
    list[str] | None, typer.Option("--set", help="Change the recipe: training.lr=0.001.")
]
Weights = Annotated[
    str | None, typer.Option(help="Which weights of the file, if it holds several.")
]

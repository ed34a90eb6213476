"""``ablate demo``: the whole product on the checkpoint that is shipped with it."""

from pathlib import Path
from typing import Annotated

from typer import Option

from ablate_kit.cli.commands.study import study
from ablate_kit.cli.common_options import output_to
from ablate_kit.cli.dataset_options import DataOptions
from ablate_kit.cli.model_options import ModelOptions
from ablate_kit.cli.output import say, say_lines

_BUDGET = "2000 passes"  # a minute of two cores; in passes, so that it finds the same everywhere


def demo(
    output: Annotated[Path, output_to("Folder for the report.")] = Path("runs/demo"),
    budget: Annotated[
        str, Option(help="As of ablate study: image passes, or a time such as 60s.")
    ] = _BUDGET,
) -> None:
    """Look into a small trained detector, cut its parts, and say what they do."""
    from ablate_kit.checkpoints import open_checkpoint
    from ablate_kit.reports.checkpoint_reports.tree import sizes, tree
    from ablate_kit.studies.budget import parse_budget
    from detector.zoo import BUILTIN, SHAPES_TINY

    parse_budget(budget)  # a mistake is told before anything is shown
    with open_checkpoint(SHAPES_TINY) as checkpoint:
        name = SHAPES_TINY.relative_to(SHAPES_TINY.parents[3])
        say(f"{name}: {len(checkpoint.tensors)} tensors, {sizes(checkpoint.tensors)}")
        say_lines("\n".join(f"  {line}" for line in tree(checkpoint.tensors, levels=1)) + "\n")
    study(
        Path(f"{BUILTIN}shapes_tiny"),
        data=DataOptions(shapes=True),
        model=ModelOptions(),
        budget=budget,
        output=output,
    )

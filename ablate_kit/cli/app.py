"""The command line: parse, call, print. Heavy imports happen inside the commands."""

import os
import sys

import typer

from ablate_kit.cli import (
    apply,
    convert,
    cut,
    demo,
    diff,
    evaluate,
    graft,
    keys,
    meta,
    pretrain,
    score,
    swap,
    train,
    verify,
)
from ablate_kit.errors import UserError

app = typer.Typer(
    name="ablate",
    help="Ablation analysis of object detectors, on checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("keys")(keys.keys)
app.command("meta")(meta.meta)
app.command("diff")(diff.diff)
app.command("units")(cut.units)
app.command("heads")(cut.heads)
app.command("component")(cut.component)
app.command("layers")(cut.layers)
app.command("verify")(verify.verify)
app.command("apply")(apply.apply)
app.command("swap")(swap.swap)
app.command("graft")(graft.graft)
app.command("convert")(convert.convert)
app.command("eval")(evaluate.evaluate)
app.command("score")(score.score)
app.command("train")(train.train)
app.command("pretrain")(pretrain.pretrain)
app.command("demo")(demo.demo)


def main() -> None:
    """Runs the command; a user's mistake ends it with one line and exit code 2."""
    # Threads that spin while they wait take the cores from each other as soon as anything else
    # runs: seconds became minutes beside one other process. Torch's OpenMP reads this on import.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"ablate: {error}\n")
        sys.exit(2)

"""The command line: parse, call, print. Heavy imports happen inside the commands."""

import os
import sys
from typing import NoReturn

import typer

from ablate_kit.cli import (
    apply,
    convert,
    cut,
    data,
    demo,
    diff,
    dissect,
    evaluate,
    gradients,
    graft,
    keys,
    meta,
    predict,
    pretrain,
    report,
    retrain,
    score,
    swap,
    sweep,
    train,
    verify,
)
from ablate_kit.cli.output import printable
from ablate_kit.cli.usage import CommandLineError, is_help, told
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
app.command("dissect")(dissect.dissect)
app.command("swap")(swap.swap)
app.command("graft")(graft.graft)
app.command("convert")(convert.convert)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("score")(score.score)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.command("train")(train.train)
app.command("retrain")(retrain.retrain)
app.command("gradients")(gradients.gradients)
app.add_typer(data.app, name="data")
app.command("pretrain")(pretrain.pretrain)
app.command("demo")(demo.demo)


def main() -> None:
    """Runs the command; a user's mistake ends it with one line and exit code 2."""
    # Threads that spin while they wait take the cores from each other as soon as anything else
    # runs: seconds became minutes beside one other process. Torch's OpenMP reads this on import.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = app(prog_name="ablate", standalone_mode=False)
    except UserError as error:
        _refuse(str(error))
    except CommandLineError as error:
        if is_help(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(0)
        _refuse(told(error))
    except typer.Abort:
        _refuse("aborted")
    sys.exit(code)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"ablate: {printable(message)}\n")
    sys.exit(2)

"""The command line: find the command, call it, say what went wrong.

A command is imported when it is called, and imports what is heavy when it runs: most of the time
that listing a checkpoint takes is start-up.
"""

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ablate_kit.cli import edge
from detector.disk import bounded

# Where each command is, from ``ablate_kit.cli`` on: a function, or the ``app`` of a group.
COMMANDS = {
    "keys": "commands.keys.keys",
    "meta": "commands.meta.meta",
    "diff": "commands.diff.diff",
    "units": "commands.cut.units",
    "heads": "commands.cut.heads",
    "component": "commands.cut.component",
    "layers": "commands.cut.layers",
    "queries": "commands.cut_parts.queries",
    "levels": "commands.cut_parts.levels",
    "points": "commands.cut_parts.points",
    "skip": "commands.cut_parts.skip",
    "mean": "commands.mean.mean",
    "verify": "commands.verify.verify",
    "apply": "commands.apply.apply",
    "dissect": ".compat.deep_dissect.command.dissect",
    "swap": "commands.swap.swap",
    "graft": "commands.graft.graft",
    "convert": "commands.convert.convert",
    "eval": "commands.eval.evaluate",
    "patch": "commands.patch.patch",
    "predict": "commands.predict.predict",
    "score": "commands.score.score",
    "sweep": "commands.sweep.sweep",
    "cache": "commands.cache.cache",
    "report": "commands.report.report",
    "train": "commands.train.train",
    "retrain": "commands.retrain.retrain",
    "gradients": "commands.gradients.gradients",
    "data": "commands.data.app",
    "pretrain": "commands.pretrain.pretrain",
    "demo": "commands.demo.demo",
}


def app(words: Sequence[str]) -> typer.Typer:
    """The program for a command line: with the command that it calls, or with all of them."""
    made = typer.Typer(
        name="ablate",
        help="Ablation analysis of object detectors, on checkpoints.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    made.callback()(_group)
    given = words[:1]
    if given and given[0].startswith("--read-limit"):
        given = words[1:2] if "=" in given[0] else words[2:3]
    for name in given if given and given[0] in COMMANDS else COMMANDS:
        module, _, attribute = COMMANDS[name].rpartition(".")
        found = getattr(importlib.import_module(f".{module}", __package__), attribute)
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=name)
        else:
            made.command(name)(found)
    return made


def _group(
    read_limit: Annotated[
        str | None,
        typer.Option(help="Read larger files, and files that unpack to more, such as 8GB."),
    ] = None,
) -> None:
    # Without this function, a program with a single command would take no command's name.
    if read_limit is not None:
        bounded.size_of(read_limit, "--read-limit")
        os.environ[bounded.VARIABLE] = read_limit  # for processes that are started, too


def main() -> None:
    """Runs the command; a user's mistake ends it with one line and exit code 2."""
    # Threads that spin while they wait take the cores from each other as soon as anything else
    # runs: seconds became minutes beside one other process. Torch's OpenMP reads this on import.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # 100,000 descriptions of tensors are as many objects: by default Python would look through all
    # of them for cycles again and again, for longer than the command takes.
    gc.set_threshold(50_000)
    sys.exit(edge.run(lambda: app(sys.argv[1:])(prog_name="ablate", standalone_mode=False)))

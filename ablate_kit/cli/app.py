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
from typer import Option

from ablate_kit import __version__
from ablate_kit.cli import edge
from ablate_kit.cli.examples import example_text
from ablate_kit.cli.option_groups import with_groups
from detector.disk import bounded

# Where each command is, from ``ablate_kit.cli`` on, in the groups and the order of the help: a
# function, or the ``app`` of a group.
GROUPS = {
    "Begin here": {"study": "commands.study.study", "demo": "commands.demo.demo"},
    "Look inside": {
        "keys": "commands.keys.keys",
        "meta": "commands.meta.meta",
        "diff": "commands.diff.diff",
    },
    "Cut": {
        "heads": "commands.cut.heads",
        "units": "commands.cut.units",
        "component": "commands.cut.component",
        "layers": "commands.cut.layers",
        "queries": "commands.cut_parts.queries",
        "levels": "commands.cut_parts.levels",
        "points": "commands.cut_parts.points",
        "skip": "commands.cut_parts.skip",
        "mean": "commands.mean.mean",
        "dissect": ".compat.deep_dissect.command.dissect",
        "verify": "commands.verify.verify",
        "apply": "commands.apply.apply",
    },
    "Change": {
        "swap": "commands.swap.swap",
        "graft": "commands.graft.graft",
        "convert": "commands.convert.convert",
        "shrink": "commands.shrink.shrink",
    },
    "Evaluate": {
        "eval": "commands.eval.evaluate",
        "score": "commands.score.score",
        "predict": "commands.predict.predict",
        "patch": "commands.patch.patch",
        "knobs": "commands.knobs.knobs",
    },
    "Sweep": {
        "sweep": "commands.sweep.sweep",
        "replicate": "commands.replicate.replicate",
        "report": "commands.report.report",
        "export": "commands.export.export",
        "cache": "commands.cache.cache",
        "schema": "commands.schema.schema",
    },
    "Train": {
        "train": "commands.train.train",
        "pretrain": "commands.pretrain.pretrain",
        "retrain": "commands.retrain.retrain",
        "gradients": "commands.gradients.gradients",
    },
    "Data": {"data": "commands.data.app"},
}
COMMANDS = {name: place for group in GROUPS.values() for name, place in group.items()}

# The extra that is named where a package is missing; of all other commands it is ``eval``.
EXTRAS = {
    "data": "data",
    **dict.fromkeys(("score", "report", "export", "cache", "schema"), "score"),
    **dict.fromkeys(GROUPS["Train"], "train"),
}


def app(words: Sequence[str]) -> typer.Typer:
    """The program for a command line: with the command that it calls, or with all of them."""
    called = _called(words)
    program = typer.Typer(
        name="ablate",
        help="Ablation analysis of object detectors, on checkpoints.",
        no_args_is_help=True,
        add_completion=not called,  # which takes time that a command does not have
        pretty_exceptions_enable=False,
    )
    program.callback(epilog=None if called else example_text("ablate"))(_group)
    for title, group in GROUPS.items():
        for name, place in group.items():
            if called and name != called:
                continue
            module, _, attribute = place.rpartition(".")
            found = getattr(importlib.import_module(f".{module}", __package__), attribute)
            if isinstance(found, typer.Typer):
                program.add_typer(found, name=name, rich_help_panel=title)
            else:
                examples = example_text(name)
                program.command(name, rich_help_panel=title, epilog=examples)(with_groups(found))
    return program


def _called(words: Sequence[str]) -> str:
    """The command that a command line names; an empty string where it names none."""
    given = words[:1]
    if given and given[0].startswith("--read-limit"):
        given = words[1:2] if "=" in given[0] else words[2:3]
    return given[0] if given and given[0] in COMMANDS else ""


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ablate {__version__}")
        raise typer.Exit


def _group(
    version: Annotated[
        bool,
        Option("--version", help="Say which version this is.", callback=_say_version,
                     is_eager=True),
    ] = False,
    read_limit: Annotated[
        str | None,
        Option(help="Read larger files, and files that unpack to more, such as 8GB."),
    ] = None,
) -> None:  # fmt: skip
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
    words = sys.argv[1:]
    called = _called(words)
    sys.exit(
        edge.run(
            lambda: app(words)(prog_name="ablate", standalone_mode=False),
            named=called or "this",
            extra=EXTRAS.get(called, "eval"),
        )
    )

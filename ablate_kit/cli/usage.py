"""Mistakes in the command line itself, told like all others: one line, exit code 2."""

import re
from typing import Any

import typer

from ablate_kit.errors import did_you_mean

# What Typer raises for a command line that it cannot read. It brings its own copy of Click or
# takes the installed one, by version; its public names are the same.
CommandLineError: type[Exception] = typer.BadParameter.__mro__[2]


def is_help(error: Exception) -> bool:
    """Whether this is no mistake but a command that was given without anything."""
    return type(error).__name__ == "NoArgsIsHelpError"


def error_message(error: Any) -> str:
    """What was wrong, in which command, and the nearest name that exists."""
    context = getattr(error, "ctx", None)
    where = "" if context is None else context.command_path.partition(" ")[2]
    return f"{where}: {_what(error, context)}" if where else _what(error, context)


def _what(error: Any, context: Any) -> str:
    if hasattr(error, "possibilities") and context is not None:
        name = error.option_name
        return f'no option "{name}"{did_you_mean(name, _options(context)) or _all(context, ";")}'
    commands = getattr(getattr(context, "command", None), "commands", None)
    if commands and "No such command" in error.format_message():
        name = error.format_message().split("'")[1]
        near = did_you_mean(name, commands)
        return f'no command "{name}"{near}{_all(context, "" if near else ";")}'
    message = " ".join(error.format_message().split()).removesuffix(".")
    message = message[:1].lower() + message[1:].replace("'", '"')
    extra = re.search(r"unexpected extra argument.*\((\d+)\)$", message)
    if extra and context is not None and "--limit" in _options(context):
        message += f"; the first {extra[1]} images are --limit {extra[1]}"
    if message.startswith("missing") and (told := getattr(error.param, "help", None)):
        message += f" ({told.removesuffix('.')})"
    return message


def _all(context: Any, mark: str) -> str:
    return f"{mark} {context.command_path} --help lists all"


def _options(context: Any) -> list[str]:
    given = (option for parameter in context.command.params for option in parameter.opts)
    return [option for option in given if option.startswith("-")]

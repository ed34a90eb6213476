"""The page of all commands: each with its help, options, defaults and examples."""

import html
import inspect
import re
from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from ablate_kit.cli.app import GROUPS, app
from ablate_kit.cli.examples import EXAMPLES

_START = """# Command line

What `ablate COMMAND --help` says. A checkpoint is a file, a folder or `builtin:shapes_tiny`.

"""


def command_reference() -> str:
    """The page, in Markdown."""
    program: Any = get_command(app([]))
    parts = [_START, _options(program)]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n\n")
        for name in names:
            parts.append(_command(f"ablate {name}", program.commands[name], level=3))
    return "".join(parts)


def _command(name: str, command: TyperCommand | TyperGroup, level: int) -> str:
    head = f"{'#' * level} {name}\n\n"
    about = _escaped(inspect.cleandoc(command.help or ""))
    if isinstance(command, TyperGroup):
        inner: Any = command.commands
        parts = [_command(f"{name} {one}", each, level + 1) for one, each in inner.items()]
        return f"{head}{about}\n\n{''.join(parts)}"
    usage = " ".join([name, *command.collect_usage_pieces(_context(command))])
    parts = [head, about, "\n\n", f"```\n{usage}\n```\n\n", _options(command)]
    if examples := EXAMPLES.get(name.removeprefix("ablate ")):
        lines = "\n".join(examples)
        parts.append(f"Examples:\n\n```\n{lines}\n```\n\n")
    return "".join(parts)


def _context(command: Any) -> Any:
    return command.context_class(command)


def _options(command: TyperCommand | TyperGroup) -> str:
    """A table of arguments and options."""
    context = _context(command)
    rows = []
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        name = str(one.name)
        if isinstance(one, TyperOption):
            kind = "" if one.is_flag else f" {one.make_metavar(context).lower()}"
            name = ", ".join((*one.opts, *one.secondary_opts)) + kind
        text = " ".join((getattr(one, "help", None) or "").split())
        rows.append(f"| {_code(name)} | {_escaped(text)} | {_default(one)} |\n")
    return f"| | what | default |\n|---|---|---|\n{''.join(rows)}\n" if rows else ""


def _default(one: Any) -> str:
    if one.required:
        return "required"
    value = one.default
    if value is None or value is False or callable(value) or value in ((), [], ""):
        return ""
    return _code(str(getattr(value, "value", value)))


def _code(text: str) -> str:
    """As code in a cell of a table, where a bar ends the cell."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def _escaped(text: str) -> str:
    """Without what Markdown would take for HTML, emphasis or a reference."""
    return re.sub(r"([*_\[])", r"\\\1", text).replace("<", "&lt;").replace("|", "&#124;")

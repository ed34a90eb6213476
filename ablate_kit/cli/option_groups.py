"""Options that several commands have, written once.

A parameter of a command that is annotated as a dataclass stands for the fields of that class: each
is an option of the command, and the command is given them as one value. Its ``PANEL``, where it has
one, is the heading under which the help lists them, below the command's own options.
"""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Annotated, Any, get_args, get_type_hints

from ablate_kit.errors import UserError

Command = Callable[..., None]


def _listed(annotation: Any, panel: str | None) -> Any:
    """An option under the heading ``panel``, unless it names another one."""
    kind, told = get_args(annotation)
    if panel is None or told.rich_help_panel:
        return annotation
    told = copy(told)
    told.rich_help_panel = panel
    return Annotated[kind, told]


def with_groups(command: Command) -> Command:
    """The command as Typer takes it: all options side by side, where their group stands, and every
    number finite."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for name, one in inspect.signature(command).parameters.items():
        hint = hints[name]
        if not is_dataclass(hint):
            parameters.append(one.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(hint, type)  # noqa: S101 - and no instance of one
        groups[name] = hint
        own = get_type_hints(hint, include_extras=True)
        panel = getattr(hint, "PANEL", None)
        parameters += [
            inspect.Parameter(
                option.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=option.default,
                annotation=_listed(own[option.name], panel),
            )
            for option in fields(hint)
        ]

    def expanded(**given: Any) -> None:
        for name, value in given.items():
            if isinstance(value, float) and not isfinite(value):  # NaN is in every range
                raise UserError(f"--{name.replace('_', '-')} is {value}; expected a finite number")
        for name, group in groups.items():
            given[name] = group(**{one.name: given.pop(one.name) for one in fields(group)})
        command(**given)

    expanded.__name__, expanded.__doc__ = command.__name__, command.__doc__
    expanded.__annotations__ = {one.name: one.annotation for one in parameters}
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return expanded

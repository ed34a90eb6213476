"""What all recipes share: reading the YAML file, overriding it, and naming what is wrong in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detector.errors import UserError, did_you_mean

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Nonnegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Recipe = TypeVar("Recipe", bound=BaseModel)


def read_recipe(path: Path, overrides: Sequence[str], keys: str) -> dict[str, Any]:
    """The values of a YAML file, changed by ``key.key=value`` overrides (values are YAML).

    ``keys`` says what a recipe of this kind holds, to whom gives another file.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no recipe {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a YAML file: {reason}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no recipe: expected the keys {keys}")
    for override in overrides:
        _override(values, override)
    return values


def validated(kind: type[Recipe], values: dict[str, Any], where: str) -> Recipe:
    """``values`` as a recipe; ``UserError`` names the first problem and the nearest known key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_problem(kind, error)}") from None


def refuse_unknown(place: str, given: Mapping[str, object], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise UserError(f'unknown key "{place}.{name}"{did_you_mean(name, known)}')


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *parents, leaf = key.split(".")
    if not equals or not all((*parents, leaf)):
        raise UserError(f'cannot read --set "{override}"; expected KEY.KEY=VALUE')
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f'cannot read --set "{override}": "{parent}" is not a section')
    try:
        values[leaf] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f'cannot read the value of --set "{override}" as YAML') from None


def _first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    # A misspelled key explains why another is missing.
    unknown = (problem for problem in problems if problem["type"] == "extra_forbidden")
    problem = next(unknown, problems[0])
    section, steps = _located(kind, problem["loc"])
    place = ".".join(steps)
    if problem["type"] == "extra_forbidden":
        return f'unknown key "{place}"{did_you_mean(steps[-1], section.model_fields)}'
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message[0].lower()}{message[1:]}"


def _located(kind: type[BaseModel], path: Sequence[int | str]) -> tuple[type[BaseModel], list[str]]:
    """The section that holds the last step of an error's path, and the steps as users write them.

    The value of a section's ``kind`` appears as a step of the path, too; users never wrote it.
    """
    options, steps = [kind], []
    for i, step in enumerate(path):
        tagged = [option for option in options if _tag(option) == step]
        if tagged:
            options = tagged
            continue
        steps.append(str(step))
        fields = [o.model_fields[step] for o in options if step in o.model_fields]
        inner = [section for field in fields for section in _sections(field.annotation)]
        if inner and i + 1 < len(path):
            options = inner
    return options[0], steps


def _tag(section: type[BaseModel]) -> str | None:
    field = section.model_fields.get("kind")
    return get_args(field.annotation)[0] if field is not None else None


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections within an annotation, such as those of a list or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]

"""What all recipes share: reading the YAML file, overriding it, and naming what is wrong in it."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from detector.bounds import Count, Natural
from detector.disk.bounded import allowed, read_bounded, too_large
from detector.errors import UserError, did_you_mean, nearest_or_all
from detector.yaml_values import DEEPEST, LARGEST, YamlError, read_yaml
from detector.yaml_values import Path as Place

__all__ = [
    "Count", "Given", "Natural", "Nonnegative", "Override", "Positive", "Probability", "Rate",
    "Section", "Share", "WholeRecipe", "WrongValueError", "given_recipe", "of_model", "read_recipe",
    "refuse_unknown", "validated",
]  # fmt: skip

Positive = Annotated[float, Field(gt=0)]
Nonnegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]

SHOWN = 60  # characters of a key or an override in an error


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Recipe = TypeVar("Recipe", bound=BaseModel)


class Override(NamedTuple):
    """A value that replaces another, and who says so."""

    key: str  # such as training.lr
    value: Any
    where: str


@dataclass(frozen=True)
class Given:
    """A recipe's values, not yet checked, and where each of them stands."""

    values: dict[str, Any]
    source: str = field(compare=False)
    places: Mapping[Place, str] = field(compare=False)

    def where(self, path: Place) -> str:
        """Where a value stands, or else the nearest section that it would be in."""
        return self.place(path) or self.source

    def place(self, path: Place) -> str:
        """The same; nothing where no file or option says it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return ""


def read_recipe(path: Path, overrides: Sequence[str | Override], keys: str) -> Given:
    """The values of a YAML file, changed by ``key.key=value`` overrides (values are YAML).

    ``keys`` says what a recipe of this kind holds, to whom gives another file.
    """
    try:
        read = read_yaml(_text(path))
    except YamlError as error:
        where = f"{path}:{error.line}:{error.column}"
        raise UserError(f"{where}: is not a YAML file: {error.problem}") from None
    if not isinstance(read.value, dict):
        raise UserError(f"{path} holds no recipe: expected the keys {keys}")
    places = {at: f"{path}:{line}:{column}" for at, (line, column) in read.marks.items()}
    for override in overrides:
        change = _parsed(override) if isinstance(override, str) else override
        _apply(read.value, places, change)
    return Given(read.value, str(path), places)


def given_recipe(
    values: Mapping[str, Any], source: str, overrides: Sequence[str | Override]
) -> Given:
    """A recipe that no file holds; ``source`` is named where something is wrong in it."""
    places: dict[Place, str] = {}
    held = json.loads(json.dumps(values))
    for override in overrides:
        change = _parsed(override) if isinstance(override, str) else override
        _apply(held, places, change)
    return Given(held, source, places)


def validated(kind: type[Recipe], given: Given) -> Recipe:
    """The values as a recipe; ``UserError`` names the first problem and the nearest known key."""
    try:
        text = json.dumps(given.values)
    except (TypeError, ValueError, RecursionError):  # a checkpoint's recipe may hold anything
        raise UserError(
            f"{given.source} holds no recipe: its values are not what JSON has"
        ) from None
    try:
        # They are what JSON has, and strictly so: "8" is no number, in no section.
        recipe = kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        path, problem = _first_problem(kind, error)
        raise UserError(f"{given.where(path)}: {problem}") from None
    if isinstance(recipe, WholeRecipe):
        recipe.stands(given)
    return recipe


class WrongValueError(UserError):
    """What is wrong with the value at ``path``, which its section's types let through."""

    def __init__(self, path: Place, problem: str) -> None:
        super().__init__(problem)
        self.path = path


class WholeRecipe(Section):
    """A recipe that knows where its values stand, for what is found wrong after it was read.

    Recipes of the same values are the same wherever these stand.
    """

    _given: Given = PrivateAttr(Given({}, "", {}))

    def stands(self, given: Given) -> None:
        self._given = replace(given, values={})

    def place(self, path: Place) -> str:
        return self._given.place(path)

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Says of a wrong value where it stands."""
        try:
            yield
        except WrongValueError as error:
            where = self._given.where(error.path)
            raise UserError(f"{where}: {error}" if where else str(error)) from None


@contextmanager
def of_model(given: Collection[str]) -> Iterator[None]:
    """Says of a network that cannot be built which of the settings ``given`` in ``model`` is at
    fault: the first that the problem names."""
    try:
        yield
    except WrongValueError:
        raise
    except UserError as error:
        named = [word for word in re.findall(r"\w+", str(error)) if word in given]
        raise WrongValueError(("model", *named[:1]), str(error)) from None


def refuse_unknown(section: Place, given: Mapping[str, object], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            shown, place = name[:SHOWN], ".".join(map(str, section))
            problem = f'unknown key "{place}.{shown}"{nearest_or_all(shown, known)}'
            raise WrongValueError((*section, name), problem)


def _text(path: Path) -> str:
    try:
        found = read_bounded(path, LARGEST, pipes=True)
        return found.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no recipe {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        column = error.start - (found.rfind(b"\n", 0, error.start) + 1) + 1
        raise UserError(f"{path}:{line}:{column}: this is not text in UTF-8") from None


def _parsed(override: str) -> Override:
    shown = _cut(override)
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f'cannot read --set "{shown}"; expected KEY.KEY=VALUE')
    if len(text) > allowed(LARGEST):
        raise too_large(f'the value of --set "{shown}"', allowed(LARGEST))
    try:
        return Override(key, read_yaml(text).value, f'--set "{shown}"')
    except YamlError as error:
        raise UserError(
            f'cannot read the value of --set "{shown}" as YAML, line {error.line}, column '
            f"{error.column}: {error.problem}"
        ) from None


def _apply(values: dict[str, Any], places: dict[Place, str], change: Override) -> None:
    *parents, leaf = steps = change.key.split(".")
    if not all(steps):
        raise UserError(f'{change.where}: the key "{_cut(change.key)}" is not KEY.KEY')
    if len(steps) > DEEPEST:
        raise UserError(f"{change.where} is more than {DEEPEST} sections deep")
    for end, parent in enumerate(parents, start=1):
        if parent not in values:
            places[tuple(steps[:end])] = change.where
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f'{change.where}: "{_cut(parent)}" is not a section')
    values[leaf] = change.value
    path: Place = tuple(steps)
    for one in [one for one in places if one[: len(path)] == path]:
        del places[one]
    places[path] = change.where


def _first_problem(kind: type[BaseModel], error: ValidationError) -> tuple[Place, str]:
    problems = error.errors(include_url=False)
    # A misspelled key explains why another is missing.
    misspelled = ("extra_forbidden", "unexpected_keyword_argument")
    problem = next((one for one in problems if one["type"] in misspelled), problems[0])
    options, steps = _located(kind, problem["loc"])
    place = ".".join(_cut(str(step)) for step in steps)
    prefix = f"{place}: " if place else ""
    if problem["type"] in misspelled:
        name = str(steps[-1])[:SHOWN]
        return steps, f'unknown key "{place}"{nearest_or_all(name, _fields(options[0]))}'
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        kinds = [tag for option in options if (tag := _tag(option))]
        section = problem["input"]
        given = section.get("kind") if isinstance(section, dict) else None
        known = ", ".join(kinds)
        if given is None:
            return steps, f"{prefix}kind is missing; expected {known}"
        shown = _cut(str(given))
        nearest = did_you_mean(shown, kinds)
        return (*steps, "kind"), f'{prefix}kind is "{shown}"; expected {known}{nearest}'
    message = problem["msg"].removeprefix("Value error, ").replace("valid array", "valid list")
    return steps, f"{prefix}{message[0].lower()}{message[1:]}"


def _located(kind: type, path: Sequence[int | str]) -> tuple[list[type], Place]:
    """The sections that the last step of an error's path may be in, and the steps as users write
    them: the value of a section's ``kind`` is a step of the path, too, that users never wrote.
    """
    options: list[type] = [kind]
    steps: list[int | str] = []
    chosen = False  # by its kind; a key may be called as the kind is
    for i, step in enumerate(path):
        tagged = [option for option in options if _tag(option) == step]
        if tagged and not chosen:
            options, chosen = tagged, True
            continue
        if steps and step in ("list[str]", "str"):  # which of a value's types it was not
            continue
        steps.append(step)
        inner = [
            section
            for option in options
            if isinstance(step, str)
            for section in _sections(_fields(option).get(step))
        ]
        last = i + 1 == len(path)
        if inner and (not last or any(map(_tag, inner))):
            options, chosen = inner, False
    return options, tuple(steps)


def _fields(section: type) -> dict[str, Any]:
    """The keys of a section and what they take."""
    if issubclass(section, BaseModel):
        return {
            field.alias or name: field.annotation for name, field in section.model_fields.items()
        }
    return {one.name: one.type for one in fields(section)}  # type: ignore[arg-type]


def _tag(section: type) -> str | None:
    """What a section's ``kind`` must be, where it has one."""
    options = get_args(_fields(section).get("kind"))
    return str(options[0]) if len(options) == 1 else None


def _sections(annotation: Any) -> list[type]:
    """The sections within an annotation, such as those of a list or a union."""
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."

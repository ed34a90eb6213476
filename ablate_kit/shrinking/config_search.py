"""Which settings of a configuration make a model have given shapes: found by asking the model.

No list of architectures says what a setting does. The model is built without memory for its
weights, with one setting changed, and its shapes tell.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from ablate_kit.errors import UserError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Obstacle:
    """A setting that makes a tensor as it should be, and another one as it should not."""

    setting: str
    value: int | float
    tensor: str
    wanted: Shape
    would_be: Shape | None


@dataclass(frozen=True)
class Found:
    """``changes`` are settings by their paths, ``shapes`` those that they give, and ``wrong`` the
    names of tensors that are otherwise then; ``obstacle`` is None where there are none."""

    changes: Mapping[Path, int | float]
    shapes: Shapes
    wrong: tuple[str, ...]
    obstacle: Obstacle | None


def settings_for(
    config: Mapping[str, Any], wanted: Shapes, build: Callable[[Mapping[str, Any]], Shapes | None]
) -> Found:
    """The settings with which ``build`` gives the ``wanted`` shapes, as far as there are such.

    Args:
        config: the configuration that the model has.
        build: the shapes of a model with another one; None where none can be built.
    """
    current = build(config)
    if current is None:
        raise UserError("the model cannot be built from its own configuration")
    changed, changes = deepcopy(dict(config)), {}
    obstacle: Obstacle | None = None
    hopeless: set[tuple[int, int]] = set()
    for size, path, value in _candidates(config, current, wanted):
        if not _wrong(current, wanted):
            break
        if path in changes or size in hopeless:
            continue
        trial = deepcopy(changed)
        _set(trial, path, value)
        shapes = build(trial)
        if shapes is None:
            continue
        moved = [name for name in {**current, **shapes} if shapes.get(name) != current.get(name)]
        harmed = [name for name in moved if shapes.get(name) != wanted.get(name)]
        if not moved:
            continue
        if not harmed:
            changed, current, changes[path] = trial, shapes, value
        elif len(harmed) < len(moved) and harmed[0] in wanted:
            # This is the setting of these tensors: others would be guesses.
            name = harmed[0]
            obstacle = obstacle or Obstacle(
                _text(path), value, name, wanted[name], shapes.get(name)
            )
            hopeless.add(size)
    wrong = tuple(_wrong(current, wanted))
    return Found(changes, current, wrong, obstacle if wrong else None)


def with_settings(config: Mapping[str, Any], changes: Mapping[Path, int | float]) -> dict[str, Any]:
    """A copy of a configuration with these settings, whether it said anything of them or not."""
    copy = deepcopy(dict(config))
    for path, value in changes.items():
        _set(copy, path, value)
    return copy


def _candidates(
    config: Mapping[str, Any], current: Shapes, wanted: Shapes
) -> Iterator[tuple[tuple[int, int], Path, int | float]]:
    """Settings to try, for which change of a size, with their new values: those first that are
    that size."""
    ratios: dict[tuple[int, int], None] = {}
    for name in _wrong(current, wanted):
        if name in current and name in wanted and len(current[name]) == len(wanted[name]):
            pairs = zip(current[name], wanted[name], strict=True)
            ratios |= {(before, after): None for before, after in pairs if before != after}
    numbers = list(_numbers(config, ()))
    for before, after in ratios:
        yield from (((before, after), path, after) for path, number in numbers if number == before)
    for before, after in ratios:
        for path, number in numbers:
            if isinstance(number, float):
                yield (before, after), path, number * after / before
            elif (
                1 < number != before
                and 0 in (before % number, number % before)
                and number * after % before == 0
            ):
                yield (before, after), path, number * after // before


def _numbers(value: Any, path: Path) -> Iterator[tuple[Path, int | float]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key not in ("id2label", "label2id"):
                yield from _numbers(one, (*path, key))
    elif isinstance(value, list | tuple):
        for i, one in enumerate(value):
            yield from _numbers(one, (*path, i))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _wrong(current: Shapes, wanted: Shapes) -> list[str]:
    return [name for name in {**current, **wanted} if current.get(name) != wanted.get(name)]


def _set(config: dict[str, Any], path: Path, value: int | float) -> None:
    place: Any = config
    for i, step in enumerate(path[:-1]):
        if isinstance(place, dict) and isinstance(place.get(step), tuple):
            place[step] = list(place[step])
        if isinstance(place, dict) and step not in place:
            place[step] = {} if isinstance(path[i + 1], str) else []
        place = place[step]
    place[path[-1]] = value


def _text(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text

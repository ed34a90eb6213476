"""Places within a value of JSON, and what changes one of them."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[Any], None]
ABSENT = "absent"  # in place of a value that is gone


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands, the value itself first."""
    yield path
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*path, key))


def change(*path: Any, to: Any) -> Change:
    """Puts ``to`` in the place of what stands there."""

    def apply(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        if to is ABSENT:
            del value[path[-1]]
        else:
            value[path[-1]] = to

    return apply


def drop(*path: Any) -> Change:
    return change(*path, to=ABSENT)


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A copy of the value with ``to`` in a place."""
    if not path:
        return to
    value = copy.deepcopy(value)
    change(*path, to=to)(value)
    return value

"""Finds the tensors in nested dictionaries, lists and tuples, and names them."""

from collections.abc import Iterator
from typing import Any

from .errors import CheckpointError
from .opaque import show
from .tensors import TensorView

_DEEPEST = 64


def named_views(tree: Any, allowance: int) -> Iterator[tuple[tuple[str, ...], TensorView]]:
    """Every tensor with the path of keys that leads to it, in the order of the containers.

    A container that is reached by several paths is entered by each of them, because two state
    dicts may be one object; inside itself it is not entered again. ``allowance`` bounds the
    characters of all paths together, which shared containers could multiply without end.

    Raises ``CheckpointError`` where tensors are buried deeper than 64 levels, or the allowance is
    used up.
    """
    if isinstance(tree, TensorView):
        yield ("tensor",), tree
        return
    path: list[str] = []
    lengths = [0]
    entered = [id(tree)]
    levels = [_entries(tree)]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            entered.pop()
            lengths.pop()
            if path:
                path.pop()
            continue
        key, value = entry
        plain = not isinstance(value, TensorView | dict | list | tuple)
        text = "" if plain else _spelled(key)
        length = lengths[-1] + len(text) + 1
        allowance -= 1 if plain else length
        if allowance < 0:
            raise CheckpointError("shared containers give its tensors too many names")
        if isinstance(value, TensorView):
            yield (*path, text), value
        elif not plain and value and id(value) not in entered:
            if len(levels) == _DEEPEST:
                raise CheckpointError(f"its containers are nested deeper than {_DEEPEST} levels")
            path.append(text)
            lengths.append(length)
            entered.append(id(value))
            levels.append(_entries(value))


def _entries(container: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(container, dict):
        return iter(container.items())
    if isinstance(container, list | tuple):
        return iter(enumerate(container))
    return iter(())


def _spelled(key: Any) -> str:
    return str(key) if isinstance(key, str | int) else show(key, 60)

"""Finds the tensors in nested dictionaries, lists, tuples and modules, and names them."""

from collections.abc import Iterator
from typing import Any

from ablate_kit.checkpoints.pickle.saved_modules import entries_of, is_module, state_of
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.tensors import TensorView
from ablate_kit.errors import CheckpointError

_DEEPEST = 64
_DEEPEST_MODULES = 500  # Python's own pickler gives up at some 330


def named_views(tree: Any, allowance: int) -> Iterator[tuple[tuple[str, ...], TensorView]]:
    """Every tensor with the path of keys that leads to it, in the order of the containers.

    A container that is reached by several paths is entered by each of them, because two state
    dicts may be one object; inside itself it is not entered again. A module that was pickled whole
    counts as its ``state_dict()``: one key leads from it to a tensor, however deep in it that is.
    ``allowance`` bounds the characters of all paths together, which shared containers could
    multiply without end.

    Raises ``CheckpointError`` where tensors are buried deeper than 64 levels (modules: 500), or the
    allowance is used up.
    """
    for path, value in named_leaves(tree, allowance):
        if isinstance(value, TensorView):
            yield path, value


def named_leaves(tree: Any, allowance: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """As ``named_views``, with what stands in a module for a tensor or a submodule and is none."""
    if isinstance(tree, TensorView):
        yield ("tensor",), tree
        return
    path: list[str] = []
    lengths = [0]
    entered = [id(tree)]
    levels = [_entries(tree)]
    whole = 0 if is_module(tree) else None  # how many keys lead to the module that this is inside
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            entered.pop()
            lengths.pop()
            if path:
                path.pop()
            if whole is not None and len(path) < whole:
                whole = None
            continue
        key, value = entry
        is_leaf = isinstance(value, TensorView)
        opened = not is_leaf and is_module(value)
        if whole is not None:
            is_leaf = not opened
        elif not is_leaf:
            opened = opened or isinstance(value, dict | list | tuple)
        text = _spelled(key) if is_leaf or opened else ""
        length = lengths[-1] + len(text) + 1
        allowance -= length if is_leaf or opened else 1
        if allowance < 0:
            raise CheckpointError("shared containers give its tensors too many names")
        if is_leaf and whole is None:
            yield (*path, text), value
        elif is_leaf:
            yield (*path[:whole], ".".join((*path[whole:], text))), value
        elif opened and value and id(value) not in entered:
            deepest = _DEEPEST if whole is None else _DEEPEST_MODULES
            if len(levels) >= deepest:
                raise CheckpointError(f"its containers are nested deeper than {deepest} levels")
            path.append(text)
            lengths.append(length)
            entered.append(id(value))
            levels.append(_entries(value))
            if whole is None and is_module(value):
                whole = len(path)


def _entries(container: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(container, dict):
        return iter(container.items())
    if isinstance(container, list | tuple):
        return iter(enumerate(container))
    state = state_of(container)
    return iter(()) if state is None else entries_of(state)


def _spelled(key: Any) -> str:
    return str(key) if isinstance(key, str | int) else show(key, 60)

"""What lies in a checkpoint beside its tensors, as an outline."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablate_kit.checkpoints import TensorView, UnresolvedObject, show
from ablate_kit.checkpoints.pickle.saved_modules import (
    attributes_of,
    class_name,
    is_module,
    state_of,
)
from ablate_kit.plural import counted
from detector.disk.bounded import SETTINGS, read_bounded

_LISTED = 40  # entries of one container
_LONGEST = 160
_DEEPEST = 64
_BESIDE = {
    "config.json": ("model_type", "architectures", "id2label"),
    "trainer_state.json": ("global_step", "max_steps", "epoch", "best_metric"),
}
_MOST_LINES = 10_000


def of_folder(folder: Path) -> dict[str, Any]:
    """What a Hugging Face folder says of its model and of the training that wrote it."""
    found: dict[str, Any] = {}
    for name, keys in _BESIDE.items():
        file = folder / name
        if not file.is_file():
            continue
        try:
            said = json.loads(read_bounded(file, SETTINGS))
        except (OSError, ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            found[name] = {key: said[key] for key in keys if said.get(key) is not None}
        else:
            found[name] = "not to be read as a JSON object"
    return found


def outline(
    tree: Mapping[Any, Any], levels: int, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every entry that is no tensor: its keys, and its value as text; no text for a container that
    is opened. Objects are shown by class and arguments.

    A file may hold one container very often, or in itself: lines and depth are bounded.
    """
    for number, line in enumerate(_lines(tree, min(levels, _DEEPEST), path)):
        if number == _MOST_LINES:
            yield (*path, "..."), "and more"
            return
        yield line


def _lines(
    tree: Mapping[Any, Any], levels: int, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    views = [key for key, value in tree.items() if isinstance(value, TensorView)]
    if views and path:
        yield (
            (*path, counted(len(views), "tensor")),
            show(views[0], 60) + (", ..." if len(views) > 1 else ""),
        )
    others = [(key, value) for key, value in tree.items() if not isinstance(value, TensorView)]
    for key, value in others[:_LISTED]:
        here = (*path, key if isinstance(key, str) and key.isprintable() else show(key, 60))
        inside = _inside(value)
        if inside and len(path) + 1 < levels:
            yield here, show(_head(value), _LONGEST) if isinstance(value, UnresolvedObject) else ""
            yield from _lines(inside, levels, here)
        else:
            yield here, show(_head(value) if is_module(value) else value, _LONGEST)
    if len(others) > _LISTED:
        yield (*path, "..."), f"{len(others) - _LISTED} more"


def _inside(value: Any) -> Mapping[Any, Any] | None:
    """The entries of a container that is worth opening: one that holds others, or is long; of a
    module that was saved whole, its attributes and submodules."""
    state = state_of(value)
    if state is not None:
        return attributes_of(state)
    if isinstance(value, UnresolvedObject) and isinstance(value.state, dict):
        return value.state if _deep(value.state) else None
    if isinstance(value, dict):
        return value if _deep(value) else None
    return None


def _deep(table: Mapping[Any, Any]) -> bool:
    return len(table) > 4 or any(
        isinstance(value, dict | UnresolvedObject | TensorView) for value in table.values()
    )


def _head(value: UnresolvedObject) -> UnresolvedObject:
    if is_module(value):
        return UnresolvedObject("", class_name(value))
    return UnresolvedObject(
        value.module, value.qualname, value.args, value.kwargs, None, value.items
    )

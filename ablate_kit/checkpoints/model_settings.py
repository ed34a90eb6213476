"""What a file says of its model beside the weights: configuration, class names, arguments.

It lies beside the weights, or on the model itself where that was saved whole.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ablate_kit.checkpoints import openmmlab
from ablate_kit.checkpoints.archive import Archive
from ablate_kit.checkpoints.pickle.saved_modules import SavedModule, modules_above
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.checkpoints.tensors import TensorInfo
from ablate_kit.errors import CheckpointError
from detector.disk.bounded import SETTINGS, read_bounded

# Where training scripts keep their arguments, and models the names of their classes.
_ARGUMENTS = ("args", "hyper_parameters", "train_args", "hparams", "cfg")
_DEEPEST = 16  # table in a table
_CLASSES = ("names", "classes", "class_names", "CLASSES")


def config(
    path: Path, archive: Archive, tensors: Mapping[str, TensorInfo]
) -> Mapping[str, Any] | None:
    """The model's configuration; None where there is none that can be read."""
    file = path / "config.json"
    if path != archive.path and file.is_file():
        try:
            parsed = json.loads(read_bounded(file, SETTINGS))
        except OSError as error:
            raise CheckpointError(f"cannot read {file}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{file} is not valid JSON: {show(str(error), 80)}") from None
        if not isinstance(parsed, dict):
            raise CheckpointError(f"{file} is not a JSON object")
        return parsed
    for found in (
        _table(archive.metadata.get("config")),
        openmmlab.model_config(archive.metadata),
        _table(_of_model(archive.metadata, tensors, ("config",))),
    ):
        if found is not None:
            return found
    return None


def arguments(metadata: Mapping[Any, Any], tensors: Mapping[str, TensorInfo]) -> Mapping[str, Any]:
    """The arguments of the script that trained the model, objects among them as tables of their
    attributes; empty where there are none."""
    found = next((metadata[key] for key in _ARGUMENTS if key in metadata), None)
    if found is None:
        found = _of_model(metadata, tensors, _ARGUMENTS)
    tables = _tables(_plain(found), {}, _DEEPEST)
    return tables if isinstance(tables, dict) else {}


def classes(
    metadata: Mapping[Any, Any], tensors: Mapping[str, TensorInfo]
) -> tuple[str, ...] | None:
    """The names of the model's classes, in their order; None where there are none."""
    found = _plain(metadata.get("classes"))
    if found is None:
        found = openmmlab.classes(metadata)
    if found is None:
        found = _plain(metadata.get("names"))
    if found is None:
        found = _of_model(metadata, tensors, _CLASSES)
    if isinstance(found, dict) and list(found) == list(range(len(found))):
        found = list(found.values())  # {0: "person", 1: "bicycle", ...}
    match found:
        case [*names] if names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None


def _of_model(
    metadata: Mapping[Any, Any], tensors: Mapping[str, TensorInfo], names: Iterable[str]
) -> Any:
    """What a model that was saved whole, or the one that it wraps, has under the first of these
    names."""
    first = next(iter(tensors.values()), None)
    modules = modules_above(metadata, first.path) if first else []
    for module in modules[:-3:-1]:
        for name in names:
            value = getattr(module, name, None)
            if value is not None and not isinstance(value, SavedModule):
                return value
    return None


def _table(value: Any) -> Mapping[str, Any] | None:
    """A table, or the attributes of an object, or what a text spells as JSON; None for all else."""
    found = value.state if isinstance(value, UnresolvedObject) else _plain(value)
    return found if isinstance(found, dict) else None


def _tables(value: Any, known: dict[int, Any], depth: int) -> Any:
    """``value`` with tables in place of objects that have attributes or are tables themselves."""
    if not isinstance(value, UnresolvedObject | dict | list) or depth == 0:
        return value
    if id(value) in known:  # also what lies within itself
        return known[id(value)]
    found: Any = value
    if isinstance(value, UnresolvedObject):
        own = value.state if isinstance(value.state, dict) else {}
        if "_content" in own or "_val" in own:  # a table, list or value of OmegaConf
            return _tables(own.get("_content", own.get("_val")), known, depth)
        pairs = all(isinstance(one, tuple) and len(one) == 2 for one in value.items)
        if pairs and all(isinstance(one[0], str) for one in value.items) and value.items:
            found = dict(value.items)  # such as Lightning's AttributeDict
        elif isinstance(value.state, dict):
            found = value.state
    if isinstance(found, dict):
        table: dict[Any, Any] = {}
        known[id(value)] = table
        table.update({key: _tables(one, known, depth - 1) for key, one in found.items()})
        return table
    if isinstance(found, list):
        listed: list[Any] = []
        known[id(value)] = listed
        listed.extend(_tables(one, known, depth - 1) for one in found)
        return listed
    return value


def _plain(value: Any) -> Any:
    """``value``, or what it spells as JSON; None for a text that is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None

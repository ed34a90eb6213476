"""What MMDetection and MMEngine write about a model into ``meta``: configuration and class names.

The configuration is a text in Python's syntax. Its literals are read; nothing of it is run.
"""

import ast
from collections.abc import Mapping
from typing import Any


def model_config(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ``model`` of the configuration's text; None where there is none that can be read."""
    meta = metadata.get("meta")
    if not isinstance(meta, Mapping):
        return None
    text = meta.get("cfg", meta.get("config"))  # the second in files of before MMEngine
    if not isinstance(text, str):
        return None
    try:
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign([ast.Name("model")], value):
                    found = _literal(value)
                    return found if isinstance(found, dict) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return None


def classes(metadata: Mapping[str, Any]) -> Any:
    """The value that stands where class names are written; None where there is none."""
    meta = metadata.get("meta")
    if not isinstance(meta, Mapping):
        return None
    data = meta.get("dataset_meta")
    for place in (data if isinstance(data, Mapping) else {}, meta):
        for key in ("classes", "CLASSES"):
            if key in place:
                return place[key]
    return None


def _literal(node: ast.expr) -> Any:
    """The value of literals and of ``dict(name=value)``; None for all else."""
    match node:
        case ast.Call(ast.Name("dict"), [], keywords):
            return {one.arg: _literal(one.value) for one in keywords if one.arg}
        case ast.Dict(keys, values):
            pairs = zip(keys, values, strict=True)
            return {
                key.value: _literal(value) for key, value in pairs if isinstance(key, ast.Constant)
            }
        case ast.List(items) | ast.Tuple(items):
            return [_literal(item) for item in items]
        case ast.Constant(value):
            return value
    return None

"""What MMDetection and MMEngine write about a model into ``meta``: configuration and class names.

The configuration is a text in Python's syntax. Its literals are read; nothing of it is run.
"""

import ast
from collections.abc import Mapping
from typing import Any

# What settings were called while MMDetection 3 was made, when files of its model zoo were trained.
_EARLIER = {
    "num_query": "num_queries",
    "encoder_cfg": "encoder",
    "decoder_cfg": "decoder",
    "positional_encoding_cfg": "positional_encoding",
}


def model_config(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ``model`` of the configuration's text; None where there is none that can be read."""
    found = settings(metadata).get("model")
    return found if isinstance(found, dict) else None


def settings(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """All that the configuration's text sets by name, the model's settings by their present names;
    None for each value that is no literal."""
    meta = metadata.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    text = meta.get("cfg", meta.get("config"))  # the second in files of before MMEngine
    if not isinstance(text, str):
        return {}
    found = {}
    try:
        for statement in ast.parse(text).body:
            match statement:
                case ast.Assign([ast.Name(name)], value):
                    found[name] = _literal(value)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    if isinstance(model := found.get("model"), dict):
        found["model"] = {
            now if (now := _EARLIER.get(key, key)) not in model else key: value
            for key, value in model.items()
        }
    return found


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
        case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
            return -value
    return None

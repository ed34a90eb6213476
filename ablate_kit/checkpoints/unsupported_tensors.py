"""Tensors that are more than their bytes: shown with their reason, never read as numbers."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from ablate_kit.checkpoints.dtypes import ITEM_SIZES
from ablate_kit.checkpoints.pickle.nested_tensors import named_leaves
from ablate_kit.checkpoints.pickle.saved_modules import all_modules, class_name, is_module
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.checkpoints.tensors import TensorView

_DEEPEST, _MOST = 3, 64  # of lists that are looked into

UNSUPPORTED = "it is more than its bytes, so it can be shown and not be read or cut"

_QUANTIZED = re.compile(r"\.(?:quantized|rnn)\.")  # classes of packed weights, in C++
_REASONS = {
    "_rebuild_qtensor": "quantized",
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_meta_tensor_no_storage": "without data",
    "_rebuild_parameter": "a parameter of such a tensor",
    "_rebuild_parameter_with_state": "a parameter of such a tensor",
}


def unsupported(metadata: Mapping[Any, Any], place: str) -> dict[str, str]:
    """Names and reasons of the tensors among the weights at ``place`` that cannot be read."""
    found: dict[str, str] = {}
    for part in place.split("+"):
        here: Any = metadata
        if not part and is_module(metadata.get("")):
            here = metadata[""]
        keys = part.split(".") if part else []
        while keys and isinstance(here, dict) and keys[0] in here:
            here = here[keys.pop(0)]
        # What is left of the place is what names begin with.
        start = "".join(f"{key}." for key in keys)
        inside = _in_module(here) if is_module(here) else _in_table(here)
        found |= {
            name.removeprefix(start): reason
            for name, reason in inside.items()
            if name.startswith(start)
        }
    return found


def _in_table(table: Any) -> dict[str, str]:
    """Also in lists below, where quantized modules of PyTorch keep weight and bias."""
    found: dict[str, str] = {}
    if not isinstance(table, Mapping):
        return found
    waiting = [(name, value, 0) for name, value in table.items()][::-1]
    while waiting:
        name, value, depth = waiting.pop()
        if isinstance(value, UnresolvedObject):
            if reason := _reason(value):
                found[str(name)] = reason
        elif isinstance(value, list | tuple) and depth < _DEEPEST and isinstance(name, str):
            waiting += [(name, each, depth + 1) for each in value[:_MOST]]
    return found


def _in_module(module: UnresolvedObject) -> dict[str, str]:
    # The walk was bounded when the file was opened.
    leaves = named_leaves(module, sys.maxsize)
    found = {
        path[-1]: (isinstance(value, UnresolvedObject) and _reason(value)) or _object(value)
        for path, value in leaves
        if not isinstance(value, TensorView)
    }
    # What quantized modules of PyTorch compute with is an attribute: an object of C++.
    for name, state in all_modules(module):
        for key, value in state.items():
            if isinstance(value, UnresolvedObject) and (reason := _of_script(value)):
                found[f"{name}.{key}".lstrip(".")] = reason
    return found


def _of_script(value: UnresolvedObject) -> str:
    """Of what quantized modules of PyTorch compute with; empty for what is no object of C++."""
    match value:
        case UnresolvedObject(qualname="ScriptObject", state=(_, str() as kind)):
            return "quantized" if _QUANTIZED.search(kind) else _of_class(kind)
    return ""


def _object(value: Any) -> str:
    named = isinstance(value, UnresolvedObject)
    return _of_class(class_name(value) if named else type(value).__name__)


def _of_class(kind: str) -> str:
    return f"an object of the class {show(UnresolvedObject('', kind), 60)}"


def _reason(value: UnresolvedObject) -> str:
    if (value.module, value.qualname) == ("numpy", "ndarray"):
        return "an array of NumPy"
    if reason := _of_script(value):
        return reason
    if value.args is None or not value.module.startswith("torch"):
        return ""
    if value.module == "torch.nn.parameter" and value.qualname.startswith("Uninitialized"):
        return "a parameter that has no values yet"
    if value.qualname == "_rebuild_from_type_v2" and len(value.args) > 1:
        return f"a tensor of the class {show(value.args[1], 60)}"
    if value.qualname in ("_rebuild_tensor_v2", "_rebuild_tensor_v3"):
        return _why_not(value.args)
    return _REASONS.get(value.qualname, "")


def _why_not(args: tuple[Any, ...]) -> str:
    """Of a tensor that is rebuilt as those are that can be read."""
    match args:
        case (UnresolvedObject(qualname=kind), *_):
            return f"on a storage of the class {show(UnresolvedObject('', kind), 60)}"
        case (_, _, _, _, _, _, UnresolvedObject(qualname=dtype), *_) if dtype not in ITEM_SIZES:
            return f"of the type {show(UnresolvedObject('', dtype), 60)}"
    return "a conjugate or negated view"

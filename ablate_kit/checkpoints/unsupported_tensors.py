"""Tensors that are more than their bytes: shown with their reason, never read as numbers."""

import sys
from collections.abc import Mapping
from typing import Any

from ablate_kit.checkpoints.pickle.nested_tensors import named_leaves
from ablate_kit.checkpoints.pickle.saved_modules import class_name, is_module
from ablate_kit.checkpoints.pickle.unresolved import UnresolvedObject, show
from ablate_kit.checkpoints.tensors import TensorView

UNSUPPORTED = "it is more than its bytes, so it can be shown and not be read or cut"

_REASONS = {
    "_rebuild_qtensor": "quantized",
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_meta_tensor_no_storage": "without data",
    "_rebuild_tensor_v2": "a conjugate or negated view",
    "_rebuild_tensor_v3": "a conjugate or negated view",
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
        for key in part.split(".") if part else ():
            here = here.get(key) if isinstance(here, dict) else None
        if is_module(here):
            found |= _in_module(here)
            continue
        for name, value in here.items() if isinstance(here, Mapping) else ():
            if isinstance(value, UnresolvedObject) and isinstance(name, str):
                reason = _reason(value)
                if reason:
                    found[name] = reason
    return found


def _in_module(module: UnresolvedObject) -> dict[str, str]:
    # The walk was bounded when the file was opened.
    leaves = named_leaves(module, sys.maxsize)
    return {
        path[-1]: (isinstance(value, UnresolvedObject) and _reason(value)) or _object(value)
        for path, value in leaves
        if not isinstance(value, TensorView)
    }


def _object(value: Any) -> str:
    kind = class_name(value) if isinstance(value, UnresolvedObject) else type(value).__name__
    return f"an object of the class {show(UnresolvedObject('', kind), 60)}"


def _reason(value: UnresolvedObject) -> str:
    if value.args is None or not value.module.startswith("torch"):
        return ""
    if value.qualname == "_rebuild_from_type_v2" and len(value.args) > 1:
        return f"a tensor of the class {show(value.args[1], 60)}"
    return _REASONS.get(value.qualname, "")

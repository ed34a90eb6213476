"""Tensors that are more than their bytes: shown with their reason, never read as numbers."""

from collections.abc import Mapping
from typing import Any

from .opaque import Opaque, show

NOT_READ = "it is more than its bytes, so it can be shown and not be read or cut"

_REASONS = {
    "_rebuild_qtensor": "quantized",
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_sparse_csr_tensor": "sparse",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_meta_tensor_no_storage": "without data",
    "_rebuild_tensor_v2": "a conjugate or negated view",
    "_rebuild_tensor_v3": "a conjugate or negated view",
    "_rebuild_parameter": "a parameter of such a tensor",
}


def unread(metadata: Mapping[Any, Any], place: str) -> dict[str, str]:
    """Names and reasons of the tensors among the weights at ``place`` that cannot be read."""
    found: dict[str, str] = {}
    for part in place.split("+"):
        here: Any = metadata
        for key in part.split(".") if part else ():
            here = here.get(key) if isinstance(here, dict) else None
        for name, value in here.items() if isinstance(here, Mapping) else ():
            if isinstance(value, Opaque) and isinstance(name, str):
                reason = _reason(value)
                if reason:
                    found[name] = reason
    return found


def _reason(value: Opaque) -> str:
    if value.args is None or not value.module.startswith("torch"):
        return ""
    if value.qualname == "_rebuild_from_type_v2" and len(value.args) > 1:
        return f"a tensor of the class {show(value.args[1], 60)}"
    return _REASONS.get(value.qualname, "")

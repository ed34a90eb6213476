"""The first part of a safetensors file, which says what follows; without torch."""

import json
import math
from collections.abc import Mapping

TensorLayout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Of each tensor the type, by the name torch gives it, and the shape."""

# In the library's order. In a file the tensors of the last type come first: the widest, so that all
# are aligned.
CODES = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
    "I16": ("int16", 2),
    "U16": ("uint16", 2),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I32": ("int32", 4),
    "U32": ("uint32", 4),
    "F32": ("float32", 4),
    "C64": ("complex64", 8),
    "F64": ("float64", 8),
    "I64": ("int64", 8),
    "U64": ("uint64", 8),
}
"""The header's codes: the type, by the name torch gives it, and the bytes of an element. Types of
less than a byte (F4, F6) have no entry."""


def safetensors_head(layout: TensorLayout, metadata: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """The first part of a file, and the order in which the tensors' bytes follow."""
    codes = {kind: (-rank, code, size) for rank, (code, (kind, size)) in enumerate(CODES.items())}
    order = sorted(layout, key=lambda name: (codes[layout[name][0]], name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in order:
        kind, shape = layout[name]
        _, code, size = codes[kind]
        start, end = end, end + math.prod(shape) * size
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the tensors
    return len(text).to_bytes(8, "little") + text, order

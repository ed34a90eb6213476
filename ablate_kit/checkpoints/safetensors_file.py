"""safetensors files: eight bytes of length, a JSON header, the tensors' bytes.

After the format's description (https://huggingface.co/docs/safetensors): what its reference reader
refuses is refused here.
"""

import json
import math
from collections import Counter
from typing import Any

from .dtypes import ITEM_SIZES, SAFETENSORS_CODES
from .errors import CheckpointError
from .opaque import show
from .source import Source
from .tensors import Storage, TensorInfo, is_possible, row_major

_LONGEST_HEADER = 100_000_000


def read_safetensors(source: Source) -> tuple[list[TensorInfo], dict[str, str]]:
    """The tensors in the header's order, and its ``__metadata__``."""
    header, start = _header(source)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise _invalid(source, "its __metadata__ is not a table of texts")
    tensors = [_tensor(source, name, entry, start) for name, entry in header.items()]
    end = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != end:
            kind = "overlaps another" if tensor.offset < end else "leaves a gap before it"
            raise _invalid(source, f"tensor {show(tensor.name, 80)} {kind}")
        end += tensor.nbytes
    if end != source.size:
        raise _invalid(
            source, f"its tensors end at byte {end}, but the file has {source.size} bytes"
        )
    return tensors, metadata


def _header(source: Source) -> tuple[dict[str, Any], int]:
    """The parsed header, and the file position of the first tensor."""
    length = int.from_bytes(source.read(0, 8), "little")
    if length > _LONGEST_HEADER:
        raise _invalid(source, f"its header claims {length} bytes, over 100 MB")
    if 8 + length > source.size:
        raise _invalid(
            source, f"its header claims {length} bytes, but the file has {source.size}: cut short?"
        )
    try:
        header = json.loads(source.read(8, length).decode("utf-8"), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise _invalid(source, f"its header is not valid JSON ({show(str(error), 80)})") from None
    if not isinstance(header, dict):
        raise _invalid(source, "its header is not a JSON object")
    return header, 8 + length


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as ``json.loads`` hooks it; ``ValueError`` for a key that occurs twice."""
    table = dict(pairs)
    if len(table) != len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {twice!r} occurs twice")
    return table


def _tensor(source: Source, name: str, entry: Any, start: int) -> TensorInfo:
    match entry:
        case {
            "dtype": str() as code,
            "shape": [*shape],
            "data_offsets": [int() as begin, int() as end],
        } if all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
            pass
        case _:
            raise _invalid(source, f"the entry of tensor {show(name, 80)} is {show(entry, 80)}")
    if code not in SAFETENSORS_CODES:
        known = ", ".join(SAFETENSORS_CODES)
        raise _invalid(
            source, f"tensor {show(name, 80)} has dtype {show(code, 40)}; known are {known}"
        )
    dtype = SAFETENSORS_CODES[code]
    if not is_possible(shape, dtype) or end - begin != math.prod(shape) * ITEM_SIZES[dtype]:
        raise _invalid(
            source,
            f"tensor {show(name, 80)} of shape {show(shape, 60)} and dtype {code} cannot be "
            f"{show(end - begin)} bytes",
        )
    if start + end > source.size:
        raise _invalid(
            source, f"tensor {show(name, 80)} reaches beyond the end of the file: cut short?"
        )
    storage = Storage(source.path, name, start + begin, end - begin)
    return TensorInfo(
        dtype, tuple(shape), row_major(tuple(shape)), start + begin, storage, name, (name,)
    )


def _invalid(source: Source, what: str) -> CheckpointError:
    return CheckpointError(f"{source.path} is not a valid safetensors file: {what}")

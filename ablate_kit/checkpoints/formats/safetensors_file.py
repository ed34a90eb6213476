"""safetensors files: eight bytes of length, a JSON header, the tensors' bytes.

After the format's description (https://huggingface.co/docs/safetensors): what its reference reader
refuses is refused here.
"""

import json
import math
import re
from collections import Counter
from functools import lru_cache
from typing import Any

from ablate_kit.checkpoints.dtypes import ITEM_SIZES, SAFETENSORS_CODES
from ablate_kit.checkpoints.pickle.unresolved import show
from ablate_kit.checkpoints.source import FileSource
from ablate_kit.checkpoints.tensors import Storage, TensorInfo, is_possible, row_major
from ablate_kit.errors import CheckpointError

_LONGEST_HEADER = 100_000_000
_SPACED_KEY = re.compile(rb'"\s+:')


def read_safetensors(source: FileSource) -> tuple[list[TensorInfo], dict[str, str]]:
    """The tensors in the header's order, and its ``__metadata__``."""
    header, start = _header(source)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise _invalid(source, "its __metadata__ is not a table of texts")
    tensors = [_tensor(source, name, entry, start) for name, entry in header.items()]
    end = start
    ranges = sorted((tensor.offset, tensor.storage.nbytes, tensor.name) for tensor in tensors)
    for offset, nbytes, name in ranges:
        if offset != end:
            kind = "overlaps another" if offset < end else "leaves a gap before it"
            raise _invalid(source, f"tensor {show(name, 80)} {kind}")
        end += nbytes
    if end != source.size:
        raise _invalid(
            source, f"its tensors end at byte {end}, but the file has {source.size} bytes"
        )
    return tensors, metadata


def _header(source: FileSource) -> tuple[dict[str, Any], int]:
    """The parsed header, and the file position of the first tensor."""
    length = int.from_bytes(source.read(0, 8), "little")
    if length > _LONGEST_HEADER:
        raise _invalid(source, f"its header claims {length} bytes, over 100 MB")
    if 8 + length > source.size:
        raise _invalid(
            source, f"its header claims {length} bytes, but the file has {source.size}: cut short?"
        )
    try:
        header = parsed_header(source.read(8, length))
    except (ValueError, RecursionError) as error:
        raise _invalid(source, f"its header is not valid JSON ({show(str(error), 80)})") from None
    if not isinstance(header, dict):
        raise _invalid(source, "its header is not a JSON object")
    return header, 8 + length


def parsed_header(text: bytes) -> Any:
    """The JSON value of a header; ``ValueError`` for a key that occurs twice, and for what Python
    alone takes for JSON: NaN, infinities, halves of characters.

    A function called for each of 100,000 entries takes longer than all else. So the keys of the
    parsed value are counted: what looks like a key in the text is one, or part of a text.
    """
    parsed = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    if b"\\u" in text:
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    if isinstance(parsed, dict) and not _SPACED_KEY.search(text):
        tables = [value for value in parsed.values() if isinstance(value, dict)]
        if text.count(b'":') == len(parsed) + sum(map(len, tables)):
            return parsed
    return json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as ``json.loads`` hooks it; ``ValueError`` for a key that occurs twice."""
    table = dict(pairs)
    if len(table) != len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {twice!r} occurs twice")
    return table


def _tensor(source: FileSource, name: str, entry: Any, start: int) -> TensorInfo:
    try:
        code, listed, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = (*listed, begin, end)
        if type(listed) is not list or set(map(type, numbers)) != {int} or min(numbers) < 0:
            raise TypeError
        dtype = SAFETENSORS_CODES.get(code)
    except (KeyError, TypeError, ValueError):
        raise _invalid(
            source, f"the entry of tensor {show(name, 80)} is {show(entry, 80)}"
        ) from None
    if dtype is None:
        known = ", ".join(SAFETENSORS_CODES)
        raise _invalid(
            source, f"tensor {show(name, 80)} has dtype {show(code, 40)}; known are {known}"
        )
    shape = tuple(listed)
    stride, nbytes = _layout(shape, dtype)
    if end - begin != nbytes:
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
    return TensorInfo(dtype, shape, stride, start + begin, storage, name, (name,))


@lru_cache(maxsize=256)  # a model has few shapes
def _layout(shape: tuple[int, ...], dtype: str) -> tuple[tuple[int, ...], int | None]:
    """Strides and bytes of a contiguous tensor; None for more bytes than can be."""
    if not is_possible(shape, dtype):
        return (), None
    return row_major(shape), math.prod(shape) * ITEM_SIZES[dtype]


def _invalid(source: FileSource, what: str) -> CheckpointError:
    return CheckpointError(f"{source.path} is not a valid safetensors file: {what}")

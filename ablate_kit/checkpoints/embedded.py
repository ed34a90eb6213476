"""A text in the metadata of a safetensors file, put in and taken out to the byte.

The text is written between two bytes of the file's first part (eight bytes of length, the JSON
header), and blanks are added behind the header so that all that follows moves by whole blocks: a
file system that clones can share them with the original. Taking the text out gives the first part
of before, so that a digest of the file without the text can be kept in the text.
"""

import json
import re
from typing import Any

from .errors import CheckpointError
from .safetensors_file import parsed_header
from .source import Source

KEY = "ablate_kit.receipt"
BLOCK = 4096  # bytes that file systems share as a whole

_METADATA = re.compile(rb'(?<!\\)"__metadata__"\s*:\s*\{')


def head_of(source: Source) -> bytes:
    """The first part of a safetensors file: all before the tensors."""
    return source.read(0, 8 + int.from_bytes(source.read(0, 8), "little"))


def embedded(head: bytes, text: str) -> bytes:
    """The first part with ``text``; of one length for all texts of one length.

    Raises ``CheckpointError`` for a header that has a text already, and for one that is valid but
    written so that the place cannot be told.
    """
    header = head[8:]
    entry = _entry(text)
    found = _METADATA.search(header)
    at = found.end() if found else header.find(b"{") + 1
    if not found:  # transformers 4 refuses a file whose metadata does not name its format
        entry = b'"__metadata__":{"format":"pt",' + entry + b"}"
    inserted = entry if header[at:].lstrip().startswith(b"}") else entry + b","
    body = header[:at] + inserted + header[at:] + b" " * (-len(inserted) % BLOCK)
    before, after = _parsed(header), _parsed(body)
    metadata = after.pop("__metadata__", None) or {}
    expected = before.pop("__metadata__", None) or {} if found else {"format": "pt"}
    if (metadata, after) != (expected | {KEY: text}, before) or KEY in expected:
        raise CheckpointError("the header has no place for a receipt")
    return _with_length(body)


def stripped(head: bytes) -> bytes:
    """The first part without its text, as it was before ``embedded``; itself if it has none."""
    header = head[8:]
    metadata = _parsed(header).get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        return head
    entry = _entry(text)
    alone = b'"__metadata__":{"format":"pt",' + entry + b"}"
    for inserted in (alone + b",", alone, entry + b",", entry):
        at = header.find(inserted)
        if at < 0:
            continue
        body = header[:at] + header[at + len(inserted) :]
        before = _with_length(body[: len(body) - -len(inserted) % BLOCK])
        try:
            if embedded(before, text) == head:
                return before
        except CheckpointError:
            continue
    return head  # another program has rewritten the file


def _entry(text: str) -> bytes:
    return f"{json.dumps(KEY)}:{json.dumps(text)}".encode()


def _with_length(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def _parsed(header: bytes) -> dict[str, Any]:
    try:
        parsed = parsed_header(header)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise CheckpointError("the header has no place for a receipt")
    return parsed
